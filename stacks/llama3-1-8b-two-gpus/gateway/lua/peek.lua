-- Looks at a piece of a response where nginx keeps it: to make a Lua string of each costs more than to judge it.
local ffi = require 'ffi'
local base = require 'resty.core.base'
local plainly = require 'plainly'
require 'resty.core.param'   -- declares the functions of nginx's Lua module

ffi.cdef 'void *memchr(const void *text, int byte, size_t size);'

local M = {}

local C, get_request = ffi.C, base.get_request
local text, size = ffi.new('unsigned char *[1]'), ffi.new('size_t[1]')
local ONE_PIECE = 0

-- How many bytes the piece has.
function M.size()
  C.ngx_http_lua_ffi_get_body_filter_param_body(get_request(), text, size)
  return tonumber(size[0])
end

-- Whether it is one whole event of OpenAI's, `data: {"id` and so on, and not the last piece: neither an error nor an end.
function M.is_delta()
  local request = get_request()
  if C.ngx_http_lua_ffi_get_body_filter_param_body(request, text, size) ~= ONE_PIECE then return false end
  local p, n = text[0], tonumber(size[0])
  if n < 16 or p[0] ~= 100 or p[4] ~= 58 or p[6] ~= 123 or p[7] ~= 34 or p[8] ~= 105 or p[n - 1] ~= 10 then return false end
  return C.memchr(p + 9, 10, n - 9) == p + (n - 2) and C.ngx_http_lua_ffi_get_body_filter_param_eof(request) ~= 1
end

-- An nginx whose Lua module looks at pieces in another way.
local function offered()
  return C.ngx_http_lua_ffi_get_body_filter_param_body, C.ngx_http_lua_ffi_get_body_filter_param_eof
end
if not pcall(offered) then
  function M.size() return #plainly.arg(1) end
  function M.is_delta() return false end
end

return M
