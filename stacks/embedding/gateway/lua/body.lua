-- Finds the members of a JSON object by position, without building values: a body may be 64 MB with
-- `model` last. Keys follow Go's rules, which are Ollama's: case does not matter, the last one wins,
-- null changes nothing.
local M = {}

local byte, find, sub, char = string.byte, string.find, string.sub, string.char

-- Index of the quote that closes the string whose text starts at `from`, or nil.
local function string_end(s, from)
  local at = from
  while true do
    local quote = find(s, '"', at, true)
    if not quote then return nil end
    local k = quote - 1
    while k >= from and byte(s, k) == 92 do k = k - 1 end
    if (quote - 1 - k) % 2 == 0 then return quote end
    at = quote + 1
  end
end

local function skip_space(s, i)
  local c = byte(s, i)
  while c == 32 or c == 10 or c == 13 or c == 9 do
    i = i + 1
    c = byte(s, i)
  end
  return i
end
M.skip_space = skip_space

-- Index of the bracket that closes the container opened at `i`, or nil.
local function container_end(s, i)
  local depth = 0
  while true do
    local c = byte(s, i)
    if not c then return nil end
    if c == 34 then
      i = string_end(s, i + 1)
      if not i then return nil end
    elseif c == 123 or c == 91 then
      depth = depth + 1
    elseif c == 125 or c == 93 then
      depth = depth - 1
      if depth == 0 then return i end
    end
    i = i + 1
  end
end

local function literal_end(s, i)
  local from = i
  local c = byte(s, i)
  while c and c ~= 44 and c ~= 93 and c ~= 125 and c ~= 58 and c ~= 34 and c > 32 do
    i = i + 1
    c = byte(s, i)
  end
  if i == from then return nil end
  return i - 1
end

local function value_end(s, i)
  local c = byte(s, i)
  if c == 34 then return string_end(s, i + 1) end
  if c == 123 or c == 91 then return container_end(s, i) end
  return literal_end(s, i)
end
M.value_end = value_end

-- Positions in the object that opens at `i`, four per member: key's text from, to, value from, to.
-- Second result: the index after the object. nil when it is not well formed.
function M.members(s, i)
  if byte(s, i) ~= 123 then return nil end
  local found, n = {}, 0
  i = skip_space(s, i + 1)
  if byte(s, i) == 125 then return found, i + 1 end
  while byte(s, i) == 34 do
    local key_end = string_end(s, i + 1)
    if not key_end then return nil end
    local colon = skip_space(s, key_end + 1)
    if byte(s, colon) ~= 58 then return nil end
    local from = skip_space(s, colon + 1)
    local to = value_end(s, from)
    if not to then return nil end
    found[n + 1], found[n + 2], found[n + 3], found[n + 4] = i + 1, key_end - 1, from, to
    n = n + 4
    i = skip_space(s, to + 1)
    local c = byte(s, i)
    if c == 125 then return found, i + 1 end
    if c ~= 44 then return nil end
    i = skip_space(s, i + 1)
  end
  return nil
end

-- Positions in the array that opens at `i`, two per element: from, to. nil when it is not well formed.
function M.elements(s, i)
  if byte(s, i) ~= 91 then return nil end
  local found, n = {}, 0
  i = skip_space(s, i + 1)
  if byte(s, i) == 93 then return found end
  while true do
    local to = value_end(s, i)
    if not to then return nil end
    found[n + 1], found[n + 2] = i, to
    n = n + 2
    i = skip_space(s, to + 1)
    local c = byte(s, i)
    if c == 93 then return found end
    if c ~= 44 then return nil end
    i = skip_space(s, i + 1)
  end
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + math.floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
    0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

local PLAIN = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }

-- Text of a JSON string from what stands between its quotes; a lone surrogate becomes U+FFFD, as in Go.
function M.unescape(raw)
  if not find(raw, '\\', 1, true) then return raw end
  local out, i = {}, 1
  while true do
    local slash = find(raw, '\\', i, true)
    if not slash then
      out[#out + 1] = sub(raw, i)
      return table.concat(out)
    end
    out[#out + 1] = sub(raw, i, slash - 1)
    local c = sub(raw, slash + 1, slash + 1)
    local code = c == 'u' and tonumber(raw:match('^%x%x%x%x', slash + 2) or '', 16)
    i = slash + 2
    if code then
      i = slash + 6
      local low = tonumber(raw:match('^\\u(%x%x%x%x)', i) or '', 16)
      if code >= 0xD800 and code < 0xDC00 and low and low >= 0xDC00 and low < 0xE000 then
        code = 0x10000 + (code - 0xD800) * 1024 + (low - 0xDC00)
        i = i + 6
      elseif code >= 0xD800 and code < 0xE000 then
        code = 0xFFFD
      end
      out[#out + 1] = utf8(code)
    else
      out[#out + 1] = PLAIN[c] or c
    end
  end
end

-- The text of the string that stands at from..to, quotes included; nil for anything else.
function M.text(s, from, to)
  if byte(s, from) ~= 34 then return nil end
  return M.unescape(sub(s, from + 1, to - 1))
end

-- The name in the top-level `model`, with the members and the index after the object; nil without one.
function M.model(s)
  local found, past = M.members(s, skip_space(s, 1))
  if not found then return nil end
  local name
  for k = 1, #found, 4 do
    -- "model" is 30 bytes when each letter is escaped
    if found[k + 1] - found[k] < 30 and M.unescape(sub(s, found[k], found[k + 1])):lower() == 'model' then
      local value = M.text(s, found[k + 2], found[k + 3])
      if value then
        name = value
      elseif sub(s, found[k + 2], found[k + 3]) ~= 'null' then
        return nil
      end
    end
  end
  return name, found, past
end

return M
