-- The text formats that Prometheus reads: its own, and OpenMetrics 1.0.
local histogram = require 'histogram'

local M = {}

M.TYPE = 'text/plain; version=0.0.4; charset=utf-8'
M.OPEN_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

local ESCAPES = { ['\\'] = '\\\\', ['"'] = '\\"', ['\n'] = '\\n' }

local function number(value)
  return ('%.15g'):format(math.floor(value * 1e6 + 0.5) / 1e6)
end

-- As OpenMetrics wants a bound: 5 is 5.0.
local function bound(value)
  local text = ('%.10g'):format(value)
  return text:find('.', 1, true) and text or text .. '.0'
end

local BOUNDS = {}
for at, value in ipairs(histogram.BOUNDS) do BOUNDS[at] = bound(value) end
BOUNDS[histogram.SIZE] = '+Inf'

-- `names` in their order, `values` beside them.
local function labels(names, values, le)
  local parts = {}
  for at, name in ipairs(names) do
    parts[at] = name .. '="' .. tostring(values[at] or ''):gsub('[\\"\n]', ESCAPES) .. '"'
  end
  if le then parts[#parts + 1] = 'le="' .. le .. '"' end
  return #parts > 0 and '{' .. table.concat(parts, ',') .. '}' or ''
end

local function add_histogram(out, name, names, sample)
  local cells, sum = sample[2], 0
  for at, le in ipairs(BOUNDS) do
    sum = sum + (cells[at] or 0)
    out[#out + 1] = name .. '_bucket' .. labels(names, sample[1], le) .. ' ' .. number(sum)
  end
  local same = labels(names, sample[1])
  out[#out + 1] = name .. '_sum' .. same .. ' ' .. number(cells.sum or 0)
  out[#out + 1] = name .. '_count' .. same .. ' ' .. number(sum)
end

-- `families` are {name, kind, help, labels = {name, ...}, samples = {{{value, ...}, n}, ...}}; a counter's name
-- ends with _total, and n of a histogram is what histogram.new gives. `open` says that OpenMetrics is wanted.
function M.text(families, open)
  local out = {}
  for _, family in ipairs(families) do
    local name, kind = family.name, family.kind
    local said = open and kind == 'counter' and name:gsub('_total$', '') or name
    out[#out + 1] = '# HELP ' .. said .. ' ' .. family.help
    out[#out + 1] = '# TYPE ' .. said .. ' ' .. kind
    for _, sample in ipairs(family.samples) do
      if kind == 'histogram' then
        add_histogram(out, name, family.labels, sample)
      else
        out[#out + 1] = name .. labels(family.labels, sample[1]) .. ' ' .. number(sample[2])
      end
    end
  end
  if open then out[#out + 1] = '# EOF' end
  return table.concat(out, '\n') .. '\n'
end

return M
