-- Which /v1/chat/completions requests mean the same to Ollama and to vLLM: every key on this list, with
-- a value in vLLM's range. Everything else is the adapter's business.
local body = require 'body'

local M = {}

local byte, sub = string.byte, string.sub

local KEPT_MOST, LONGEST = 1000, 32

-- Values repeat: what was found of a short text is kept, as patterns are slow.
local function kept(check)
  local found, count = {}, 0
  return function(raw)
    local known = found[raw]
    if known ~= nil then return known end
    known = check(raw)
    if #raw > LONGEST then return known end
    if count >= KEPT_MOST then found, count = {}, 0 end
    found[raw], count = known, count + 1
    return known
  end
end

local function number(low, high, open)
  return kept(function(raw)
    if not raw:match('^%-?%d+%.?%d*[eE]?[+-]?%d*$') then return false end
    local n = tonumber(raw)
    return n ~= nil and n <= high and (n > low or (n == low and not open))
  end)
end

-- Go refuses 8.0 for an integer and vLLM takes it: digits only.
local function integer(low, high)
  return kept(function(raw)
    local n = raw:match('^%d+$') and tonumber(raw)
    return n ~= nil and n ~= false and n >= low and n <= high
  end)
end

local function boolean(raw) return raw == 'true' or raw == 'false' end

local function text(raw) return byte(raw) == 34 end

local function stop(raw)
  if byte(raw) == 34 then return #raw > 2 end
  local items = body.elements(raw, 1)
  if not items or #items < 2 or #items > 8 then return false end
  for k = 1, #items, 2 do
    if byte(raw, items[k]) ~= 34 or items[k + 1] - items[k] < 2 then return false end
  end
  return true
end

local function stream_options(raw)
  local found = body.members(raw, 1)
  if not found or #found ~= 4 then return false end
  return sub(raw, found[1], found[2]) == 'include_usage' and boolean(sub(raw, found[3], found[4]))
end

local CHECKS = {
  model = text, user = text, stream = boolean, stop = stop, stream_options = stream_options,
  temperature = number(0, 2), top_p = number(0, 1, true),
  frequency_penalty = number(-2, 2), presence_penalty = number(-2, 2),
  max_tokens = integer(1, 2147483647), seed = integer(0, 2147483647),
}

local ROLES = { ['"system"'] = true, ['"user"'] = true, ['"assistant"'] = true }

-- Each message is exactly {role, content}, with a known role and a string.
local function messages(s, from)
  local items = body.elements(s, from)
  if not items or #items == 0 then return false end
  for k = 1, #items, 2 do
    local found = body.members(s, items[k])
    if not found or #found ~= 8 then return false end
    local role, content
    for j = 1, 8, 4 do
      local key = sub(s, found[j], found[j + 1])
      if key == 'role' then role = ROLES[sub(s, found[j + 2], found[j + 3])] end
      if key == 'content' then content = byte(s, found[j + 2]) == 34 end
    end
    if not role or not content then return false end
  end
  return true
end

-- True when the body may go to vLLM as it stands. `found` and `past` come from body.model.
function M.allowed(s, found, past)
  if body.skip_space(s, past) <= #s then return false end
  local seen = {}
  for k = 1, #found, 4 do
    local key = sub(s, found[k], found[k + 1])
    -- a key given twice is merged by Go and replaced by Python
    if seen[key] then return false end
    if key == 'messages' then
      if not messages(s, found[k + 2]) then return false end
      seen[key] = true
    else
      local check = CHECKS[key]
      local raw = sub(s, found[k + 2], found[k + 3])
      if not check or not check(raw) then return false end
      seen[key] = raw
    end
  end
  return seen.messages ~= nil and (not seen.stream_options or seen.stream == 'true')
end

return M
