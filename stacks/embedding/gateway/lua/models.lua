-- The list of models as vLLM gives it, for clients of vLLM's port: Hugging Face ids before Ollama's names, since
-- many clients take the first.
local M = {}

local function entry(id, known, created)
  return {
    id = id, object = 'model', created = created, owned_by = 'vllm', root = known.root or id,
    max_model_len = known.context,
  }
end

-- Entries of all routes in the order of their names; `created` in epoch seconds.
function M.list(routes, created)
  local names, data, seen = {}, {}, {}
  for name in pairs(routes) do names[#names + 1] = name end
  table.sort(names)
  local function add(id, known)
    if not seen[id] then data[#data + 1], seen[id] = entry(id, known, created), true end
  end
  for _, generates in ipairs({ true, false }) do
    for _, aliases in ipairs({ true, false }) do
      for _, name in ipairs(names) do
        local known = routes[name]
        if (known.kind ~= 'embedding') == generates then
          for _, alias in ipairs(aliases and known.names or {}) do add(alias, known) end
          if not aliases then add(name, known) end
        end
      end
    end
  end
  return data
end

function M.find(routes, id, created)
  for _, one in ipairs(M.list(routes, created)) do
    if one.id == id then return one end
  end
  return nil
end

return M
