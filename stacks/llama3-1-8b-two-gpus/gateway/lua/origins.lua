-- Who a browser may be told about: Ollama's rules for the headers Origin and Host, the same whoever answers.
local M = {}

local find, sub = string.find, string.sub

local LOCAL = { 'localhost', '127.0.0.1', '0.0.0.0' }
local APPS = { 'app://*', 'file://*', 'tauri://*', 'vscode-webview://*', 'vscode-file://*' }

local function trimmed(text, what) return text:match('^' .. what .. '*(.-)' .. what .. '*$') end

local function add(rules, origin)
  if origin == '*' then rules.all = true end
  rules.exact[trimmed(origin, '%s'):lower()] = true
  local star = find(origin, '*', 1, true)
  if star then rules.wild[#rules.wild + 1] = { sub(origin, 1, star - 1), sub(origin, star + 1) } end
end

-- The rules from the value of OLLAMA_ORIGINS, '' for none: those origins, and what Ollama always allows.
function M.new(text)
  local rules = { all = false, exact = {}, wild = {} }
  text = trimmed(trimmed(text, '%s'), '["\']')
  if text ~= '' then
    for origin in (text .. ','):gmatch('([^,]*),') do add(rules, origin) end
  end
  for _, host in ipairs(LOCAL) do
    for _, scheme in ipairs({ 'http://', 'https://' }) do
      add(rules, scheme .. host)
      add(rules, scheme .. host .. ':*')
    end
  end
  for _, origin in ipairs(APPS) do add(rules, origin) end
  return rules
end

function M.allowed(rules, origin)
  if rules.all or rules.exact[origin] then return true end
  for _, wild in ipairs(rules.wild) do
    local before, after = wild[1], wild[2]
    -- As in Go, where both may claim the same bytes.
    if sub(origin, 1, #before) == before and (after == '' or sub(origin, -#after) == after) then return true end
  end
  return false
end

-- True for a page of this very address: not a request across origins at all.
function M.same(origin, host) return origin == 'http://' .. host or origin == 'https://' .. host end

-- Four numbers of a dotted address, or nil.
local function quad(text)
  local a, b, c, d = text:match('^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$')
  for _, part in ipairs({ a, b, c, d }) do
    if tonumber(part) > 255 or (#part > 1 and sub(part, 1, 1) == '0') then return nil end
  end
  return tonumber(a), tonumber(b)
end

local function near4(a, b, text)
  return a == 127 or a == 10 or (a == 172 and b >= 16 and b <= 31) or (a == 192 and b == 168) or text == '0.0.0.0'
end

-- Loopback, private or unspecified.
local function near(text)
  local plain = text:match('^::ffff:([%d.]+)$') or text
  local a, b = quad(plain)
  if a then return near4(a, b, plain) end
  return text == '::1' or text == '::' or text:match('^f[cd]%x%x:[%x:.]*$') ~= nil
end

local function ends(text, with) return sub(text, -#with) == with end

-- Whether an Ollama that listens on loopback answers to this Host header.
function M.host_allowed(host)
  local name = host:lower()
  name = name:match('^%[([^%]]*)%]:[^:]*$') or name:match('^([^:]*):[^:]*$') or name
  if name == '' or name == 'localhost' or near(name) then return true end
  return ends(name, '.localhost') or ends(name, '.local') or ends(name, '.internal')
end

return M
