-- The health of every kind of tenantatlas.io, from the conditions that kstatus reads: Ready, Reconciling, Stalled.
-- A run that failed degrades its application; one that is queued or runs makes it progress.

-- Kinds that only say something: there is nothing to wait for.
local records = { AuditEntry = true, OperationReport = true }
if records[obj.kind] then
  return { status = "Healthy" }
end

if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = "suspended by spec.suspend" }
end

local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "not looked at yet" }
end

-- What was seen of an older spec says nothing of this one.
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the last change was not looked at yet" }
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local function is(name, value)
  return found[name] ~= nil and found[name].status == value
end
local function says(name)
  local condition = found[name]
  if condition == nil or condition.message == nil or condition.message == "" then
    return ""
  end
  return condition.message
end

if is("Stalled", "True") then
  return { status = "Degraded", message = says("Stalled") }
end
if is("Ready", "True") then
  return { status = "Healthy", message = says("Ready") }
end
if is("Ready", "False") and not is("Reconciling", "True") then
  return { status = "Degraded", message = says("Ready") }
end
return { status = "Progressing", message = says("Ready") }
