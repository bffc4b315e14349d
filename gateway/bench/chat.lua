-- wrk: POST chat bodies of about 1 KB.
-- wrk … -s chat.lua URL -- MODEL [new]: 32 bodies in turn, or with ``new`` one that never came before.
local bodies, n, i, model, is_new = {}, 32, 0, "mock", false
local sentences = {
  "Summarise the incident report below in three sentences for a manager who has not followed the outage.",
  "The checkout service returned errors for eleven minutes after a configuration push changed the pool size.",
  "Two of the five database replicas were lagging, and the retry storm from the mobile clients made it worse.",
  "An engineer rolled the change back, drained the queue by hand and re-enabled the background workers.",
  "List the follow-up actions, each with an owner, and say which of them would have prevented the outage.",
  "Write a Python function that merges overlapping intervals and explain its complexity in one paragraph.",
  "What is the capital of the country whose flag shows a cedar tree, and when did it become independent?",
}
local function format(k)
  local t = {}
  for s = 0, 6 do t[#t + 1] = sentences[(k * 3 + s) % #sentences + 1] end
  return wrk.format(nil, nil, nil,
    '{"model":"' .. model .. '","messages":[{"role":"system","content":"You are a careful assistant. Answer briefly and cite the report."},' ..
    '{"role":"user","content":"' .. table.concat(t, " ") .. " Case " .. k .. '."}],"temperature":0.7,"max_tokens":256,"stream":false}')
end
function init(args)
  model = args[1] or model
  is_new = args[2] == "new"
  i = is_new and os.time() % 100000 * 1000000 or 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer sk-test"
  for b = 1, n do bodies[b] = format(b) end
end
function request()
  i = i + 1
  return is_new and format(i) or bodies[i % n + 1]
end
function done(summary, latency, requests)
  io.write(string.format('\nJSON {"requests":%d,"us":%d,"non2xx":%d,"err":%d}\n',
    summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
