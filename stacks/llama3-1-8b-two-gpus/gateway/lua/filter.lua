-- Sees every piece of a response: when the first came, and how it ended.
local complain = require 'complain'
local outcome = require 'outcome'
local peek = require 'peek'
local plainly = require 'plainly'
local refuse = require 'refuse'
local requests = require 'request'
local shadow = require 'shadow'

local M = {}

local arg = plainly.arg

-- Ollama ends these streams with done:true; its other line streams (pull, create) end otherwise.
local GENERATES = { ['/api/chat'] = true, ['/api/generate'] = true }

local LOST = 'the connection to the model server was lost before the answer was complete'
local STOPPED = 'the model server stopped before the answer was complete'

-- nginx ends a broken response with an empty piece that is not the last. It also sends one after the
-- headers; by then the upstream's response time is not known yet.
local function broke_off()
  local time = ngx.var.upstream_response_time
  return time ~= nil and time:match('%-%s*$') == nil
end

-- A stream that stopped half-way gets an error as its last words, in its own form: there is no other way to tell.
local function last_words(request, ended, why)
  local judge = request.judge
  if ngx.header.content_length then return end
  local lacks, cut = outcome.lacks(judge, ended)
  if not lacks or lacks == 'end' and (ended or not cut) then return end
  ngx.arg[1] = ngx.arg[1] .. refuse.last_words(request.uri, judge.kind, cut, lacks == 'error' and why)
end

local function see(request)
  local ended = arg(2)
  if not request.judge then
    request.judge = outcome.new(plainly.header('content_type'), plainly.status(), GENERATES[request.uri])
  end
  if peek.size() > 0 then
    if not request.ttft then
      ngx.update_time()
      request.ttft = (ngx.now() - ngx.req.start_time()) * 1000
    end
    local chunk = (request.judge.kind or request.shadow) and arg(1)
    if request.judge.kind then request.judge:feed(chunk) end
    if request.shadow then shadow.add(request.shadow, chunk) end
  elseif not ended and not request.lost and broke_off() then
    request.lost = true
    last_words(request, false, LOST)
  end
  if ended then
    request.ended = true
    if request.judge.kind == 'sse' or request.judge.generates then last_words(request, true, STOPPED) end
  end
end

-- Should judging ever fail, the response goes on unjudged. Past the first, most chunks need no judging, and LuaJIT
-- compiles badly what a pcall surrounds.
function M.chunk()
  local request = requests.current()
  if not request or request.unjudged then return end
  if request.ttft and not request.shadow and outcome.between(request.judge) and peek.is_delta() then return end
  local seen, why = pcall(see, request)
  if seen then return end
  complain('judging a response failed: ' .. tostring(why))
  request.unjudged = true
end

return M
