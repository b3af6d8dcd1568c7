-- Model names as Ollama compares them: the one spelling that routes are keyed by.
local M = {}

-- Lower case, no default registry or namespace, always a tag.
function M.canonical(name)
  name = name:match('^%s*(.-)%s*$'):lower()   -- [[scheme://]host/][namespace/]model
  local host, rest = name:match('^(.*)/([^/]*/[^/]*)$')
  if host then
    local at = host:find('://', 1, true)
    if at and at + 3 <= #host then host = host:sub(at + 3) end
    name = host == 'registry.ollama.ai' and rest or host .. '/' .. rest
  end
  name = name:match('^library/([^/]*)$') or name
  if name:match('[^/]*$'):find(':', 1, true) then return name end
  return name .. ':latest'
end

return M
