-- Requests that change Ollama's own store, and what they mean for a name that vLLM serves. The store stays
-- Ollama's: they pass, and it is remembered that the two sides may differ from now on. Only what is the way back is
-- not deleted while vLLM answers under its name.
local body = require 'body'

local M = {}

-- Path -> the method that changes something; anything else is Ollama's to refuse.
M.METHODS = {
  ['/api/pull'] = 'POST', ['/api/create'] = 'POST', ['/api/copy'] = 'POST', ['/api/push'] = 'POST',
  ['/api/delete'] = 'DELETE', ['/api/signout'] = 'POST',
}

-- True for a request that a read-only gateway closes.
function M.changes(method, uri)
  if M.METHODS[uri] then return M.METHODS[uri] == method end
  if uri:sub(1, 11) == '/api/blobs/' then return method ~= 'GET' and method ~= 'HEAD' and method ~= 'OPTIONS' end
  return uri:sub(1, 15) == '/api/user/keys/' and method == 'DELETE'
end

-- The model whose content the request replaces or removes, as the client wrote it; nil when it touches none.
function M.target(uri, text)
  local found = body.members(text, body.skip_space(text, 1))
  if not found then return nil end
  local wanted = uri == '/api/copy' and { destination = true } or { model = true, name = true }
  local said = {}
  for k = 1, #found, 4 do
    local key = body.unescape(text:sub(found[k], found[k + 1])):lower()
    if wanted[key] then said[key] = body.text(text, found[k + 2], found[k + 3]) or said[key] end
  end
  if uri == '/api/push' then return nil end
  local model = said.destination or said.model
  if model == nil or model == '' then model = said.name end
  return model ~= '' and model or nil
end

return M
