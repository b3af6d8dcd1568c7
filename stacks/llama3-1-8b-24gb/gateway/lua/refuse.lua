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

-- What ends a stream that lost its upstream: an error in the stream's own form. Starts on a new line,
-- since the stream may have stopped in the middle of one.
function M.last_words(uri, kind, message)
  local text = cjson.encode(shape(uri, message))
  if kind == 'ndjson' then return '\n' .. text .. '\n' end
  local event = uri:sub(1, 12) == '/v1/messages' and 'event: error\n' or ''
  return '\n\n' .. event .. 'data: ' .. text .. '\n\n'
end

-- Answers with `status` and `message`; `refused` says that no upstream could be reached.
function M.answer(status, message, refused)
  local request = requests.current() or requests.open()
  request.refused, request.own = refused, true
  ngx.status = status
  ngx.header.content_type = 'application/json; charset=utf-8'
  local text = cjson.encode(shape(request.uri, message))
  ngx.header.content_length = #text
  ngx.print(text)
end

return M
