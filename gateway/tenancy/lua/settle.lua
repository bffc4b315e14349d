-- Put what a request held right by what it used. Sent again, it changes nothing.
--
-- KEYS  meter, holds, lapsed, spent   see reserve.lua
--       once     set when a request is settled that was let in without asking here
-- ARGV  mark ('' for such a request), nanos held, tokens used beyond those held, nanos used,
--       day, month, tokens a minute (-1: no limit)
local meter, holds, lapsed, spent, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mark, more_tokens, rate = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[7])

if mark == '' then
  if not redis.call('SET', once, 1, 'NX', 'EX', 3600) then return 0 end
elseif redis.call('ZREM', holds, mark) == 1 then
  redis.call('HINCRBY', meter, 'held', string.format('%.0f', 0 - tonumber(ARGV[2])))
elseif redis.call('ZREM', lapsed, mark) == 0 then
  return 0
end
if rate >= 0 and more_tokens ~= 0 then
  local tokens = tonumber(redis.call('HGET', meter, 'tokens') or rate)
  redis.call('HSET', meter, 'tokens', string.format('%.6f', math.min(rate, tokens - more_tokens)))
end
if ARGV[4] ~= '0' then
  redis.call('HINCRBY', spent, ARGV[5], ARGV[4])
  redis.call('HINCRBY', spent, ARGV[6], ARGV[4])
end
return 1
