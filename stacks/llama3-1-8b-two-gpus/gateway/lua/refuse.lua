-- Errors that the gateway itself answers, in the form of the protocol that was spoken.
local cjson = require 'cjson.safe'
local requests = require 'request'

local M = {}

-- What each protocol calls a status; all others are its api_error.
local ANTHROPIC = {
  [401] = 'authentication_error', [403] = 'permission_error', [404] = 'not_found_error', [405] = 'invalid_request_error',
}
local OPENAI = {
  [401] = 'invalid_request_error', [403] = 'invalid_request_error', [404] = 'not_found_error',
  [405] = 'invalid_request_error',
}

local function shape(uri, message, status)
  if uri:sub(1, 12) == '/v1/messages' then
    return { type = 'error', error = { type = ANTHROPIC[status] or 'api_error', message = message } }
  elseif uri:sub(1, 4) == '/v1/' then
    local code = status == 401 and 'invalid_api_key' or cjson.null
    return { error = { message = message, type = OPENAI[status] or 'api_error', param = cjson.null, code = code } }
  end
  return { error = message }
end

-- What ends a stream that lost its upstream: the end of the line in which it was `cut`, and `message`, if any, as an
-- error in the stream's own form. An empty line ends an event, but is an error in lines of JSON.
function M.last_words(uri, kind, cut, message)
  local line = kind == 'ndjson' and (cut and '\n' or '') or '\n\n'
  if not message then return line end
  local text = cjson.encode(shape(uri, message))
  if kind == 'ndjson' then return line .. text .. '\n' end
  local event = uri:sub(1, 12) == '/v1/messages' and 'event: error\n' or ''
  return line .. event .. 'data: ' .. text .. '\n\n'
end

-- Answers with `status` and `message`; `refused` says that no upstream could be reached.
function M.answer(status, message, refused)
  local request = requests.current() or requests.open()
  request.refused, request.own = refused, true
  ngx.status = status
  ngx.header.content_type = 'application/json; charset=utf-8'
  local text = cjson.encode(shape(request.uri, message, status))
  ngx.header.content_length = #text
  ngx.print(text)
end

return M
