-- Errors that the gateway itself answers, in the form of the protocol that was spoken.
local cjson = require 'cjson.safe'
local requests = require 'request'

local M = {}

local function shape(uri, message)
  if uri:sub(1, 12) == '/v1/messages' then
    return { type = 'error', error = { type = 'api_error', message = message } }
  elseif uri:sub(1, 4) == '/v1/' then
    return { error = { message = message, type = 'api_error', param = cjson.null, code = cjson.null } }
  end
  return { error = message }
end

-- Answers with `status` and `message`; `refused` says that no upstream could be reached.
function M.answer(status, message, refused)
  local request = requests.current() or requests.open()
  request.refused = refused
  ngx.status = status
  ngx.header.content_type = 'application/json; charset=utf-8'
  local text = cjson.encode(shape(request.uri, message))
  ngx.header.content_length = #text
  ngx.print(text)
end

return M
