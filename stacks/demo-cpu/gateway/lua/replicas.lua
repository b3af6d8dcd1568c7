-- Which replica of an engine takes a request: rendezvous hashing. For a key each replica has a score, and
-- the highest takes it. So a key stays where it is, and a new replica takes its share and moves no other key.
local bit = require 'bit'
local hash = require 'hash'

local M = {}

-- How a replica stands, best first. A worse one is taken only when there is no better.
M.FINE, M.CROWDED, M.FAILING, M.AWAY = 0, 1, 2, 3

local CROWD_LEAST = 4      -- requests in flight below which a replica is never too full
local CROWD_FACTOR = 1.5   -- and by how much it may lie above the mean (consistent hashing with bounded loads)
local MOD = 4294967296

-- What is asked of the names again and again, worked out once.
function M.peers(names)
  local peers = { names = names, seeds = {}, is = {} }
  for i = 1, #names do
    peers.seeds[i] = hash.hash(names[i])
    peers.is[names[i]] = true
  end
  return peers
end

-- True when one that has `mine` of `all` requests in flight on `n` replicas should be spared the next:
-- many requests may begin with the same words, and have the same key.
function M.crowded(mine, all, n)
  return mine >= CROWD_LEAST and mine > CROWD_FACTOR * (all + 1) / n
end

-- The name of the replica for `key` (a hash), and how it stands; nil when there is none but
-- `except`. `standing(name)` tells how one stands.
function M.pick(peers, key, standing, except)
  local best, best_score, best_rank
  for i = 1, #peers.names do
    local name = peers.names[i]
    if name ~= except then
      local rank = standing(name)
      local score = hash.stir(bit.bxor(key, peers.seeds[i]) % MOD)
      if not best or rank < best_rank or (rank == best_rank and score > best_score) then
        best, best_score, best_rank = name, score, rank
      end
    end
  end
  return best, best_rank
end

return M
