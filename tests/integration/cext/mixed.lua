-- Asks for all that the hiredis example has, in turns; a few bodies are larger than what is packed.
local turn = 0
local large = string.rep("v", 20000)

request = function()
    turn = turn + 1
    local key = "/key/k" .. turn % 50
    if turn % 5 == 0 then
        return wrk.format("PUT", key, {}, turn % 35 == 0 and large or "value " .. turn)
    elseif turn % 7 == 0 then
        return wrk.format("POST", "/count/c" .. turn % 3)
    end
    return wrk.format("GET", key)
end
