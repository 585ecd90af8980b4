-- Every request asks for a page that no cache has seen.
local thread = 0
function setup(t) t:set("id", thread); thread = thread + 1 end
function init() n = 0; base = tostring(os.time()) .. "-" .. tostring(math.floor(os.clock() * 1e6)) end
function request()
    n = n + 1
    return wrk.format("GET", wrk.path .. "?u=" .. base .. "-" .. id .. "-" .. n)
end
