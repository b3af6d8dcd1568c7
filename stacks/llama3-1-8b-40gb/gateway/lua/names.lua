-- Model names as Ollama compares them: the one spelling that routes are keyed by.
local M = {}

local function without(prefix, name)
  if name:sub(1, #prefix) == prefix then return name:sub(#prefix + 1) end
  return name
end

-- Lower case, no default registry or namespace, always a tag.
function M.canonical(name)
  name = name:match('^%s*(.-)%s*$'):lower()
  name = without('library/', without('registry.ollama.ai/', name))
  local last = name:match('[^/]*$')
  if last:find(':', 1, true) then return name end
  return name .. ':latest'
end

return M
