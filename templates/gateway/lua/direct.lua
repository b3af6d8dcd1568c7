-- Which /v1/chat/completions requests mean the same to Ollama and to vLLM: every key on this list, with
-- a value in vLLM's range. Everything else is the adapter's business.
local body = require 'body'

local M = {}

local band = require('bit').band
local byte, find, sub = string.byte, string.find, string.sub
local skip_space, value_end = body.skip_space, body.value_end

local KEPT_MOST, LONGEST = 1000, 32

local function number(low, high, open)
  return function(raw)
    if not raw:match('^%-?%d+%.?%d*[eE]?[+-]?%d*$') then return false end
    local n = tonumber(raw)
    return n ~= nil and n <= high and (n > low or (n == low and not open))
  end
end

-- Go refuses 8.0 for an integer and vLLM takes it: digits only.
local function integer(low, high)
  return function(raw)
    local n = raw:match('^%d+$') and tonumber(raw)
    return n ~= nil and n ~= false and n >= low and n <= high
  end
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
local ROLE, CONTENT = 1, 2
local TEXTS = { model = true, user = true }   -- any text will do
local BITS = { messages = 1 }   -- of keys that were seen: one given twice is merged by Go and replaced by Python
local verdicts, count = {}, 0   -- by key and value: values repeat, and patterns are slow
do
  local bit_of = 1
  for key in pairs(CHECKS) do
    bit_of = bit_of * 2
    BITS[key], verdicts[key] = bit_of, {}
  end
end

local function judge(key, raw)
  local good = CHECKS[key](raw)
  if #raw > LONGEST then return good end
  if count >= KEPT_MOST then
    for name in pairs(verdicts) do verdicts[name] = {} end
    count = 0
  end
  verdicts[key][raw], count = good, count + 1
  return good
end

-- The next byte that is no space, and where it stands. LuaJIT gives up on loops that seldom go round: there is none
-- for the usual single space.
local function next_byte(s, i)
  local c = byte(s, i)
  if c == 32 then
    i = i + 1
    c = byte(s, i)
  end
  if c and c > 32 then return c, i end
  i = skip_space(s, i)
  return byte(s, i), i
end

-- The key whose member begins at `i`, with the first byte of its value and where that stands; nil when it is none.
local function key_at(s, c, i)
  local close = c == 34 and find(s, '"', i + 1, true)
  if not close then return nil end
  local colon, at = next_byte(s, close + 1)
  if colon ~= 58 then return nil end
  local first, from = next_byte(s, at + 1)
  return sub(s, i + 1, close - 1), first, from
end

local ENDS = { [9] = true, [10] = true, [13] = true, [32] = true, [44] = true, [125] = true }

-- The last byte of a value that is no string; a short one, as numbers are, without a loop.
local function other_end(s, from)
  local a, b, c, d, e = byte(s, from + 1, from + 5)
  if ENDS[a] then return from end
  if ENDS[b] then return from + 1 end
  if ENDS[c] then return from + 2 end
  if ENDS[d] then return from + 3 end
  if ENDS[e] then return from + 4 end
  local to = value_end(s, from)
  return to
end

local function text_end(s, from)
  local to = find(s, '"', from + 1, true)
  if to and byte(s, to - 1) == 92 then to = value_end(s, from) end
  return to
end

-- What a message has with this member as well: ROLE, CONTENT or both; nil when it may not have it.
local function with(has, s, key, from, to)
  local more = key == 'content' and CONTENT or key == 'role' and ROLES[sub(s, from, to)] and ROLE
  if not more or band(has, more) ~= 0 then return nil end
  return has + more
end

-- After a message's last byte: what `has` the next, nil when there is none, with the byte that follows and its place;
-- no byte when nothing may follow so.
local function after_message(s, i)
  local c
  c, i = next_byte(s, i + 1)
  if c == 44 then
    c, i = next_byte(s, i + 1)
    if c == 123 then return 0, c, i end
  elseif c == 93 then
    c, i = next_byte(s, i + 1)
    if c ~= 123 then return nil, c, i end
  end
  return nil, nil, i
end

-- The text of a member's value when vLLM takes it, and where it ends; nil when not.
local function accepted(s, key, first, from, to)
  to = to or (first == 91 or first == 123) and value_end(s, from) or other_end(s, from)
  if not to then return nil end
  local raw = sub(s, from, to)
  local good = first == 34 and TEXTS[key] or verdicts[key][raw]
  if good == nil then good = judge(key, raw) end
  return good and raw, to
end

-- The model of a body that may go to vLLM as it stands; nil for all others. Each message is exactly {role, content},
-- with a known role and a string. One loop over the members of the body and of its messages, so that it goes round
-- often enough to be compiled.
function M.model(s)
  local c, i = next_byte(s, 1)
  if c ~= 123 then return nil end
  local seen, has, model, stream = 0, nil, nil, nil   -- `has`: only in a message
  while c == 123 or c == 44 do
    c, i = next_byte(s, i + 1)
    local key, first, from = key_at(s, c, i)
    if not key then return nil end
    local to = first == 34 and text_end(s, from)
    if has then
      has = to and with(has, s, key, from, to)
      if not has then return nil end
    else
      local bit_of = BITS[key]
      if not bit_of or band(seen, bit_of) ~= 0 then return nil end
      seen = seen + bit_of
      if key == 'messages' then
        c, i = next_byte(s, from + 1)
        if first ~= 91 or c ~= 123 then return nil end
        has = 0
      else
        local raw
        raw, to = accepted(s, key, first, from, to)
        if not raw then return nil end
        if key == 'model' then model = raw elseif key == 'stream' then stream = raw end
      end
    end
    if to then
      c, i = next_byte(s, to + 1)
      if c == 123 then return nil end
    end
    if has and c == 125 then
      if has ~= ROLE + CONTENT then return nil end
      has, c, i = after_message(s, i)
    end
  end
  if c ~= 125 or has or not model or next_byte(s, i + 1) then return nil end
  if band(seen, 1) == 0 or band(seen, BITS.stream_options) ~= 0 and stream ~= 'true' then return nil end
  return body.text(model, 1, #model)
end

return M
