-- The rules of a change of weights: who may write what on top of which version.
local M = {}

local function tenths(weight)
  return type(weight) == 'number' and weight >= 0 and weight <= 100
    and math.abs(weight * 10 - math.floor(weight * 10 + 0.5)) < 1e-6
end

-- Why `wanted` (route -> weight) cannot be written, or nil. `routes` is the configuration's.
function M.invalid(wanted, routes)
  if type(wanted) ~= 'table' or next(wanted) == nil then return 'weights: an object of route names to weights is needed' end
  for route, weight in pairs(wanted) do
    local known = routes[route]
    if not known then return 'weights: no route named ' .. tostring(route) end
    if not tenths(weight) then return 'weights.' .. route .. ': a number from 0 to 100 in steps of 0.1 is needed' end
    if known.kind == 'embedding' and weight ~= 0 and weight ~= 100 then
      return 'weights.' .. route .. ': an embedding route is never split, only 0 or 100'
    end
  end
  return nil
end

-- True when no weight rises: such a change needs no knowledge of the version.
function M.lowers(current, wanted)
  for route, weight in pairs(wanted) do
    if weight > (current[route] or 0) then return false end
  end
  return true
end

-- The state after the change, or nil and 'conflict'. `version` is what the writer last saw, or nil;
-- `by` and `at` (epoch seconds) are kept for whoever asks.
function M.change(state, wanted, version, by, at)
  if version == nil then
    if not M.lowers(state.weights, wanted) then return nil, 'conflict' end
  elseif version ~= state.version then
    return nil, 'conflict'
  end
  local merged = {}
  for route, weight in pairs(state.weights) do merged[route] = weight end
  for route, weight in pairs(wanted) do merged[route] = math.floor(weight * 10 + 0.5) / 10 end
  return { version = state.version + 1, weights = merged, lease = state.lease, by = by, changed = at,
    lowers = M.lowers(state.weights, wanted) }
end

return M
