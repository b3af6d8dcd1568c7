-- What must reach the container's log although the gateway goes on. Said from a timer: to what is logged during a
-- request nginx adds its first line, in whose query keys are sent.
return function(message)
  ngx.timer.at(0, function() ngx.log(ngx.CRIT, message) end)
end
