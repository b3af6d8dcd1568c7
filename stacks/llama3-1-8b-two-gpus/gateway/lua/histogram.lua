-- Buckets for what a language model takes: from 5 ms to 10 min, five to a decade.
local M = {}

local floor, log = math.floor, math.log

-- Upper bounds in seconds. All that takes longer is counted in one more bucket.
M.BOUNDS = {
  0.005, 0.008, 0.0125, 0.02, 0.032, 0.05, 0.08, 0.125, 0.2, 0.32, 0.5, 0.8, 1.25, 2, 3.2, 5, 8, 12.5, 20, 32, 50, 80,
  125, 200, 320, 600,
}
M.SIZE = #M.BOUNDS + 1

local bounds, size = M.BOUNDS, M.SIZE
local STEPS = 5 / log(10)
local FIRST = log(bounds[1]) * STEPS

-- The bucket of `seconds`, from 1 to SIZE. Without a loop: the logarithm says which it is, or the one or two before.
function M.bucket(seconds)
  if not (seconds > bounds[1]) then return 1 end
  local at = floor(log(seconds) * STEPS - FIRST - 0.1) + 1
  if at >= size then return size end
  if at < 1 then at = 1 end
  if seconds > bounds[at] then at = at + 1 end
  if at < size and seconds > bounds[at] then at = at + 1 end
  return at
end

-- A histogram in which nothing is counted: the sum in seconds, and how many fell into each bucket.
function M.new()
  local made = { sum = 0 }
  for at = 1, size do made[at] = 0 end
  return made
end

function M.observe(histogram, seconds)
  local at = M.bucket(seconds)
  histogram[at] = histogram[at] + 1
  histogram.sum = histogram.sum + (seconds > 0 and seconds or 0)
end

return M
