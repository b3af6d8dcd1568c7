-- Which side a request takes. A key has a fixed point on the scale 0..100 and goes to vLLM when the
-- weight lies above it, so raising a weight only ever moves keys to vLLM, lowering it only back.
local bit = require 'bit'
local body = require 'body'
local hash = require 'hash'

local M = {}

local byte, sub = string.byte, string.sub
local SAMPLE = 2048   -- bytes at either end of a long text that identify it
local MOD = 4294967296

-- The point in [0, 100) of a key on a route; both are numbers in [0, 2^32).
function M.point(key, seed) return hash.stir(bit.bxor(key, seed) % MOD) / MOD * 100 end

-- `point` in [0, 100). An embedding route is never split: vectors of two engines do not mix.
function M.side(weight, point, kind)
  if kind == 'embedding' then return weight >= 100 and 'vllm' or 'ollama' end
  return point < weight and 'vllm' or 'ollama'
end

local function add(h, s, from, to)
  if to - from < 2 * SAMPLE then return hash.add(h, s, from, to) end
  h = hash.add(h, s, from, from + SAMPLE - 1)
  return hash.add(h, s, to - SAMPLE + 1, to)
end

local function is(s, from, to, text) return to - from == #text - 1 and sub(s, from, to) == text end

-- Index of the member's value and its last; nil when the object at `at` has no such key.
local function member(s, at, key)
  local found = body.members(s, at)
  for k = 1, found and #found or 0, 4 do
    if is(s, found[k], found[k + 1], key) then return found[k + 2], found[k + 3] end
  end
  return nil
end

-- Everything up to the first user message: it stays the same while the conversation grows.
local function opening(s, from)
  local first = body.skip_space(s, from + 1)
  local at = first
  while byte(s, at) == 123 do
    local to = body.value_end(s, at)
    if not to then return nil end
    local role, role_end = member(s, at, 'role')
    if role and is(s, role, role_end, '"user"') then return hash.finish(add(add(0, s, first, at - 1), s, at, to)) end
    at = body.skip_space(s, to + 1)
    if byte(s, at) ~= 44 then return nil end
    at = body.skip_space(s, at + 1)
  end
  return nil
end

-- The key of the text that stands at from..to, quotes included; nil for an empty one and for anything else.
local function text_key(s, from, to)
  if not from or byte(s, from) ~= 34 or to - from < 2 then return nil end
  return hash.finish(add(0, s, from + 1, to - 1))
end

-- The key of whom the body names: OpenAI's `user`, Anthropic's `metadata.user_id`; nil when it names nobody.
function M.user(s, found)
  for k = 1, #found, 4 do
    local from, to = found[k], found[k + 1]
    if is(s, from, to, 'user') then
      local key = text_key(s, found[k + 2], found[k + 3])
      if key then return key end
    elseif is(s, from, to, 'metadata') then
      local key = text_key(s, member(s, found[k + 2], 'user_id'))
      if key then return key end
    end
  end
  return nil
end

-- The key of a conversation: of its messages up to the first of the user, or of the beginning of its prompt; nil
-- when the body shows neither.
function M.conversation(s, found)
  for k = 1, #found, 4 do
    local from, to, at = found[k], found[k + 1], found[k + 2]
    if is(s, from, to, 'messages') or is(s, from, to, 'input') then
      if byte(s, at) == 91 then return opening(s, at) end
      return text_key(s, at, found[k + 3])
    elseif is(s, from, to, 'prompt') then
      return hash.finish(hash.add(0, s, at, math.min(found[k + 3], at + 2 * SAMPLE)))
    end
  end
  return nil
end

return M
