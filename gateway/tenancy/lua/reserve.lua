-- Let one request of a key in and hold what it may use: all of it, or nothing and the reason.
--
-- KEYS  meter   hash: requests, tokens (levels of the buckets), at (ms), held (nano-dollars)
--       holds   sorted set: a mark "id:tokens:nanos" by the end of its lease (ms)
--       lapsed  sorted set: marks whose process did not renew them, by when that was seen
--       spent   hash: nano-dollars by day ("2026-11-24") and by month ("2026-11")
-- ARGV  mark, tokens, nanos, lease (ms), day, month,
--       requests a minute, tokens a minute, requests at once, budgets of day and month (nano-dollars);
--       -1 where there is no limit
-- Returns  verdict, wait (ms), requests, tokens, inflight, held, spent in the day, in the month
local meter, holds, lapsed, spent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mark, tokens, nanos, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local per_minute = {requests = tonumber(ARGV[7]), tokens = tonumber(ARGV[8])}
local at_once = tonumber(ARGV[9])
local budgets = {day = tonumber(ARGV[10]), month = tonumber(ARGV[11])}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What a process held when it died comes back; should it still live, settling finds the mark lapsed.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', holds, old)
  redis.call('HINCRBY', meter, 'held', string.format('%.0f', 0 - tonumber(string.match(old, ':(%d+)$'))))
  redis.call('ZADD', lapsed, now, old)
  redis.call('PEXPIRE', lapsed, 3600000)
end

local known = redis.call('HMGET', meter, 'requests', 'tokens', 'at', 'held')
local since = math.max(0, now - tonumber(known[3] or now))
local function level(at, rate)
  if rate < 0 then return 0 end
  return math.min(rate, tonumber(at or rate) + since * rate / 60000)
end
local left = {requests = level(known[1], per_minute.requests), tokens = level(known[2], per_minute.tokens)}
local held = tonumber(known[4] or 0)
local paid = redis.call('HMGET', spent, ARGV[5], ARGV[6])
local used = {day = tonumber(paid[1] or 0), month = tonumber(paid[2] or 0)}
local inflight = redis.call('ZCARD', holds)

local verdict, wait = 'ok', 0
for _, period in ipairs({'day', 'month'}) do
  local rest = budgets[period] - used[period] - held
  if verdict == 'ok' and budgets[period] >= 0 and (nanos > rest or rest <= 0) then verdict = period end
end
if verdict == 'ok' and at_once >= 0 and inflight >= at_once then
  verdict = 'concurrency'
end
for _, wanted in ipairs({{'requests', 1}, {'tokens', tokens}}) do
  local kind, amount = wanted[1], wanted[2]
  local rate = per_minute[kind]
  -- More than a whole minute's worth never could be had, so a full bucket lets it through.
  local missing = math.min(amount, rate) - left[kind]
  if verdict == 'ok' and rate >= 0 and missing > 0 then
    verdict, wait = kind, math.ceil(missing * 60000 / rate)
  end
end

if verdict == 'ok' then
  left.requests, left.tokens = left.requests - 1, left.tokens - tokens
  held, inflight = held + nanos, inflight + 1
  redis.call('ZADD', holds, now + lease, mark)
  redis.call('HINCRBY', meter, 'held', ARGV[3])
end
if per_minute.requests >= 0 then redis.call('HSET', meter, 'requests', string.format('%.6f', left.requests)) end
if per_minute.tokens >= 0 then redis.call('HSET', meter, 'tokens', string.format('%.6f', left.tokens)) end
redis.call('HSET', meter, 'at', now)
redis.call('PEXPIRE', holds, 86400000)
redis.call('PEXPIRE', meter, 86400000)
return {verdict, wait, string.format('%.6f', left.requests), string.format('%.6f', left.tokens),
        inflight, string.format('%.0f', held), paid[1] or '0', paid[2] or '0'}
