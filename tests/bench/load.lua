-- What wrk sends, from the environment, and its result as one line of JSON.
local pipelined = tonumber(os.getenv("BENCH_PIPELINED") or "1")
local body = tonumber(os.getenv("BENCH_BODY") or "0")

if body > 0 then
   wrk.method = "POST"
   wrk.body = string.rep("x", body)
   wrk.headers["Content-Type"] = "application/octet-stream"
end

if pipelined > 1 then
   local batch
   function init(args)
      batch = string.rep(wrk.format(), pipelined)
   end
   function request()
      return batch
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      'RESULT {"requests": %d, "seconds": %.6f, "failed": %d, "p50": %.1f, "p99": %.1f}\n',
      summary.requests, summary.duration / 1e6, failed, latency:percentile(50), latency:percentile(99)))
end
