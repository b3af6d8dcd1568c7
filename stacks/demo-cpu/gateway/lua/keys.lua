-- The keys that callers may be asked for: a file of hashes and names, one a line as sha256sum writes them.
-- No key is ever stored. A line `mode enforce` or `mode grace` says what happens to callers without one.
local bit = require 'bit'

local M = {}

local byte = string.byte

local MODE = '^%s*mode:?%s+(%a+)%s*$'
local MODES = { grace = true, enforce = true }

-- Entries {hash, name} of the file's text, the numbers of lines that are none, and the mode that it names, if any.
function M.parse(text)
  local entries, wrong, number, mode = {}, {}, 0, nil
  text = text:gsub('^\239\187\191', '')
  for line in (text .. '\n'):gmatch('([^\r\n]*)\r?\n') do
    number = number + 1
    local hash, name = line:gsub('^%s*[Ss][Hh][Aa]256:', ''):match('^%s*(%x+)[%s*]+(%S.-)%s*$')
    if hash and #hash == 64 then
      entries[#entries + 1] = { hash = hash:lower(), name = name }
    elseif MODES[line:match(MODE) or ''] then
      mode = line:match(MODE)
    elseif not line:match('^%s*$') and not line:match('^%s*#') then
      wrong[#wrong + 1] = number
    end
  end
  return entries, wrong, mode
end

-- The name whose hash this is, or nil, in a time that tells neither how far a hash agrees nor which it is.
function M.find(entries, hash)
  local found
  for i = 1, #entries do
    local known, differ = entries[i].hash, #hash == 64 and 0 or 1
    for k = 1, 64 do differ = bit.bor(differ, bit.bxor(byte(known, k), byte(hash, k) or 0)) end
    if differ == 0 then found = entries[i].name end
  end
  return found
end

-- The key in a request: OpenAI's header, or Anthropic's; nil for none.
function M.given(authorization, api_key)
  local bearer = authorization and authorization:match('^%s*[Bb][Ee][Aa][Rr][Ee][Rr]%s+(%S+)%s*$')
  if bearer then return bearer end
  return api_key and api_key:match('^%s*(%S+)%s*$')
end

return M
