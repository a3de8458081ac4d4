-- wrk's requests, each with a number of its own in place of {n}, so that every customer is another one; and the result as JSON.
-- wrk -s load.lua URL -- METHOD PATH BODY FIRST [HEADER: VALUE ...]
local before, after, number, step

function setup(thread)
  threads = (threads or 0) + 1
  thread:set("index", threads - 1)
end

function init(args)
  local method, path, body = args[1], args[2], args[3]
  local headers = {}
  for i = 5, #args do headers[#headers + 1] = args[i] .. "\r\n" end
  local head = method .. " " .. path .. " HTTP/1.1\r\nhost: 127.0.0.1\r\n" .. table.concat(headers)
  if #body > 0 then
    local filled = body:gsub("{n}", "000000000")
    head = head .. "content-type: application/json\r\ncontent-length: " .. #filled .. "\r\n"
  end
  local all = head .. "\r\n" .. body
  local at, stop = all:find("{n}", 1, true)
  if at then before, after = all:sub(1, at - 1), all:sub(stop + 1) else before = all end
  number = tonumber(args[4]) + index * 50000000
end

function request()
  if not after then return before end
  number = number + 1
  return before .. string.format("%09d", number) .. after
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "timeouts": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
