-- A hash of texts for sharing them out, the same on every machine and in every worker.
local bit = require 'bit'

local M = {}

local MOD = 4294967296

-- h * (2^24 + 403) modulo 2^32, in parts that a double holds exactly
local function fnv_step(h, b)
  h = bit.bxor(h, b) % MOD
  return (h * 403 + bit.lshift(h, 24) % MOD) % MOD
end

local function mix(h, shift, factor)
  h = bit.bxor(h, bit.rshift(h, shift)) % MOD
  local high, low = math.floor(h / 65536), h % 65536
  return ((high * factor % 65536) * 65536 + low * factor) % MOD
end

-- Spreads what differs in any bit of a number below 2^32 over all of them.
function M.stir(h)
  h = mix(mix(h, 16, 0x7feb352d), 15, 0x846ca68b)
  return bit.bxor(h, bit.rshift(h, 16)) % MOD
end

-- A number in [0, 2^32) that depends on nothing but the text.
function M.hash(text)
  local h = 2166136261
  for i = 1, #text do h = fnv_step(h, text:byte(i)) end
  return M.stir(h)
end

return M
