-- gateway/bench/chat.lua with a key of one's own.
dofile(os.getenv("CHAT_LUA"))
local plain = wrk.format
wrk.format = function(...)
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("THALAMUS_KEY")
  return plain(...)
end
