-- Callouts, figures, equation labels and cross references of Quarto's dialect, for plain pandoc.
local labels = {fig = 'Figure', eq = 'Equation', tbl = 'Table', sec = 'Section'}
local numbers, counts = {}, {}

local function kind(id) return id and labels[id:match('^(%a+)%-')] and id:match('^(%a+)%-') end

local function number(id)
  local k = kind(id)
  if k and not numbers[id] then
    counts[k] = (counts[k] or 0) + 1
    numbers[id] = tostring(counts[k])
  end
  return numbers[id]
end

local function raw(html) return pandoc.RawBlock('html', html) end

local function wrap(open, blocks, close)
  local all = pandoc.List{raw(open)}
  all:extend(blocks)
  all:insert(raw(close))
  return all
end

-- ::: {.callout-tip collapse="true"} with a heading for its title
local function callout(div)
  local name
  for _, class in ipairs(div.classes) do name = name or class:match('^callout%-(%a+)$') end
  if not name then return end
  local body, title = div.content, {pandoc.Str(name:sub(1, 1):upper() .. name:sub(2))}
  if body[1] and body[1].t == 'Header' then title = body:remove(1).content end
  local heading = pandoc.Plain(title)
  local fold = div.attributes.collapse
  if fold then
    local open = fold == 'false' and ' open' or ''
    body:insert(1, raw('</summary>')); body:insert(1, heading)
    return wrap('<details class="callout ' .. name .. '"' .. open .. '><summary>', body, '</details>')
  end
  body:insert(1, raw('</p>')); body:insert(1, heading)
  return wrap('<div class="callout ' .. name .. '" role="note"><p class="callout-title">', body, '</div>')
end

-- ::: {#fig-name .figure}, whose last paragraph is the caption
local function figure(div)
  if not div.classes:includes('figure') then return end
  local n, caption = number(div.identifier), div.content:remove(#div.content)
  local body = div.content
  body:extend(wrap('<figcaption>Figure ' .. n .. ': ', {pandoc.Plain(caption.content)}, '</figcaption>'))
  return wrap('<figure id="' .. div.identifier .. '">', body, '</figure>')
end

-- $$…$$ {#eq-name}
local function equations(inlines)
  for i = #inlines, 1, -1 do
    local id = inlines[i] and inlines[i].t == 'Str' and inlines[i].text:match('^{#(eq%-[%w-]+)}$')
    local j = i - 1
    if id and inlines[j] and inlines[j].t ~= 'Math' then j = j - 1 end
    if id and inlines[j] and inlines[j].t == 'Math' then
      local math = inlines[j]
      math.text = math.text .. '\\tag{' .. number(id) .. '}'
      for k = i, j+1, -1 do inlines:remove(k) end
      inlines[j] = pandoc.Span(math, {id = id})
    end
  end
  return inlines
end

-- @fig-name
local function reference(cite)
  local id = cite.citations[1].id
  if not kind(id) then return end
  if not numbers[id] then error('no such label: @' .. id) end
  return pandoc.Link(labels[kind(id)] .. ' ' .. numbers[id], '#' .. id)
end

-- links to the published site become relative: those of the README notebook are absolute
local base
local function relative(link)
  if link.target:sub(1, #base) == base then link.target = link.target:sub(#base + 1); return link end
end

return {
  {Meta = function(meta) base = pandoc.utils.stringify(meta.base) end},
  {Inlines = equations},
  {Div = function(div) return figure(div) or callout(div) end, Link = relative},
  {Cite = reference},
}
