-- Judges a response by its end, from chunks cut anywhere: status codes see neither vLLM's error frame
-- inside a 200 nor Ollama's stream that just stops.
local body = require 'body'

local M = {}

local byte, find, sub = string.byte, string.find, string.sub

local HEAD = 64            -- bytes of an SSE line that tell what it is
local LONGEST = 8388608    -- bytes of an NDJSON line that are kept to be read exactly

local DONE_EVENTS = { message_stop = true, ['response.completed'] = true, ['response.incomplete'] = true }
local ERROR_EVENTS = { error = true, ['response.failed'] = true }

local function sse_line(state, line)
  state.midway = line ~= '' and line ~= '\r'   -- an event ends with an empty line
  if state.verdict then return end
  local data = line:match('^data:%s*(.-)%s*$')
  if data then
    if data == '[DONE]' or state.closing then
      state.verdict = state.failed and 'error' or 'complete'
    elseif data:match('^{%s*"error"%s*:%s*[{"]') or data:match('^{%s*"object"%s*:%s*"error"') then
      state.failed = true
    end
    return
  end
  local event = line:match('^event:%s*(.-)%s*$')
  if event and ERROR_EVENTS[event] then
    state.failed = true
  elseif event and DONE_EVENTS[event] then
    state.closing = true   -- by the data that follows: it is the whole answer once more
  end
end

local function ndjson_line(state, line)
  if line:match('^%s*$') then return end
  if sub(line, -13) == '"done":false}' then
    state.last = 'more'
    return
  end
  local found = body.members(line, body.skip_space(line, 1))
  state.last = found and 'other' or 'broken'
  for k = 1, found and #found or 0, 4 do
    local key, value = sub(line, found[k], found[k + 1]), sub(line, found[k + 2], found[k + 3])
    if key == 'error' and value ~= 'null' then state.failed = true end
    if key == 'done' then state.last = value == 'true' and 'done' or 'more' end
  end
end

local function feed_lines(state, chunk)
  local from = 1
  while true do
    local newline = find(chunk, '\n', from, true)
    local to = newline and newline - 1 or #chunk
    local room = state.limit - #state.line
    if state.line == '' and newline then
      state.read(state, sub(chunk, from, math.min(to, from + state.limit - 1)))
    else
      if room > 0 then state.line = state.line .. sub(chunk, from, math.min(to, from + room - 1)) end
      if newline then
        state.read(state, state.line)
        state.line = ''
      end
    end
    if not newline then return end
    from = newline + 1
  end
end

-- Whole frames of the usual kind tell nothing of how a stream ends: most chunks are passed over here.
local function feed_sse(state, chunk)
  if state.line == '' and not state.closing and byte(chunk, #chunk) == 10 and not find(chunk, '[DONE]', 1, true)
    and not find(chunk, 'error', 1, true) and not find(chunk, 'event', 1, true) then return end
  return feed_lines(state, chunk)
end

-- Whether a whole event at its place in the stream, should it be neither error nor end, would change nothing.
function M.between(state) return state.kind == 'sse' and state.line == '' and not state.closing end

local KINDS_MOST = 100
local kinds, known = {}, 0   -- content type -> what it means: few are ever seen

local function kind_of(content_type)
  local lower = content_type:lower()
  local kind = find(lower, 'text/event-stream', 1, true) and 'sse' or find(lower, 'ndjson', 1, true) and 'ndjson'
  if known >= KINDS_MOST then kinds, known = {}, 0 end
  kinds[content_type], known = kind, known + 1
  return kind
end

local function nothing() end

local wholes = {}   -- by status: of an answer in one piece nothing is noted

local function whole(status)
  local state = wholes[status] or { status = status, line = '', feed = nothing }
  wholes[status] = state
  return state
end

-- `content_type` and `status` of the response; `generates` says that NDJSON must end with done:true.
function M.new(content_type, status, generates)
  content_type = content_type or ''
  local kind = kinds[content_type]
  if kind == nil then kind = kind_of(content_type) end
  if not kind or status >= 400 then return whole(status) end
  local state = { status = status, line = '', generates = generates }
  if kind == 'sse' then
    state.kind, state.limit, state.read, state.feed = 'sse', HEAD, sse_line, feed_sse
  elseif kind == 'ndjson' then
    state.kind, state.limit, state.read, state.feed = 'ndjson', LONGEST, ndjson_line, feed_lines
  end
  return state
end

-- No more chunks come: the rest counts as a line.
local function rest(state, ended)
  if not ended then state.closing = nil end
  if state.line == '' then return false end
  state.read(state, state.line)
  state.line = ''
  return true
end

-- What a stream that broke off, or stopped, still lacks: 'error' when its reader waits for more than that, 'end' when
-- all was said, though perhaps not the end of the last line or event, which `cut` tells; nil when it is no stream.
function M.lacks(state, ended)
  if not state.kind then return nil end
  local told = state.failed
  local cut = rest(state, ended)
  if state.kind == 'ndjson' then told = state.failed or state.last == 'done' end
  return (state.verdict or told) and 'end' or 'error', cut or state.midway
end

-- The outcome once no more chunks come. `ended`: the body was transferred to its end;
-- `died`: the upstream broke off. Neither: the client went away.
function M.finish(state, ended, died)
  if state.status >= 500 and (ended or died) then return 'error' end
  if state.kind then rest(state, ended) end
  if state.verdict then return state.verdict end
  if state.failed then return 'error' end
  if state.kind == 'ndjson' and state.last == 'done' then return 'complete' end
  if not ended then return died and 'truncated' or 'client_left' end
  if state.kind == 'sse' then return 'truncated' end
  if state.kind == 'ndjson' then
    local whole = state.last == 'other' and not state.generates
    return whole and 'complete' or 'truncated'
  end
  return 'complete'
end

return M
