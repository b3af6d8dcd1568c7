-- Which side a request takes. A key has a fixed point on the scale 0..100 and goes to vLLM when the
-- weight lies above it, so raising a weight only ever moves keys to vLLM, lowering it only back.
local body = require 'body'
local hash = require 'hash'

local M = {}

local PREFIX = 4096   -- bytes of a conversation's beginning that identify it
local MOD = 4294967296

-- A point in [0, 100) that depends on nothing but the text.
function M.point(text) return hash.hash(text) / MOD * 100 end

-- `point` in [0, 100). An embedding route is never split: vectors of two engines do not mix.
function M.side(weight, point, kind)
  if kind == 'embedding' then return weight >= 100 and 'vllm' or 'ollama' end
  return point < weight and 'vllm' or 'ollama'
end

-- What stays the same while a conversation grows: everything up to its first user message, or the
-- beginning of its prompt; nil when the body shows neither.
function M.conversation(s, found)
  for k = 1, #found, 4 do
    local key, from = s:sub(found[k], found[k + 1]), found[k + 2]
    if key == 'prompt' or key == 'input' then return s:sub(from, math.min(found[k + 3], from + PREFIX)) end
    local items = key == 'messages' and body.elements(s, from)
    for j = 1, items and #items or 0, 2 do
      if s:sub(items[j], items[j + 1]):find('"role"%s*:%s*"user"') then
        return s:sub(items[1], math.min(items[j + 1], items[1] + PREFIX))
      end
    end
  end
  return nil
end

return M
