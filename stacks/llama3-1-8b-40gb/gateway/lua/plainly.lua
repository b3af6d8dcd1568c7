-- ngx.var, ngx.arg, ngx.header and ngx.status as plain functions: LuaJIT gives up on a trace that returns through a
-- metamethod, and after some tries runs that function in the interpreter for ever.
local M = {}

local var, arg, header = ngx.var, ngx.arg, ngx.header
local var_of, arg_of, header_of = getmetatable(var).__index, getmetatable(arg).__index, getmetatable(header).__index
local set_var, field = getmetatable(var).__newindex, getmetatable(ngx).__index

-- Each keeps its value before it returns it: a trace that begins in a function which ends in a call is given up, too.

function M.var(name)
  local value = var_of(var, name)
  return value
end

function M.set(name, value) set_var(var, name, value) end

function M.arg(at)
  local value = arg_of(arg, at)
  return value
end

function M.header(name)
  local value = header_of(header, name)
  return value
end

function M.status()
  local value = field(ngx, 'status')
  return value
end

return M
