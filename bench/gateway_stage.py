"""The stage of bench/gateway.py: an upstream, a bare nginx before it, and the gateway, each one worker of one image."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "gateway"))

from gateway_harness import IMAGE, ROUTE, WRITTEN_TOGETHER, Nginx, Ports, docker  # noqa: E402

UPSTREAM, BARE = 22100, 22101
GATEWAY = Ports(22110)
HEAD = """worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 8m;
  client_body_temp_path /tmp/body;
  keepalive_requests 1000000000;
  tcp_nodelay on;
"""
# Answers a chat of 1.2 KB at once, or streams chunks that carry the time at which they were sent.
ANSWERS = HEAD + """  server {
    listen 127.0.0.1:{upstream} backlog=4096;
    location / {
      content_by_lua_block {
        ngx.req.read_body()
        local chunks = tonumber(ngx.var.http_x_chunks)
        if not chunks then
          ngx.header.content_type = 'application/json'
          local text = '{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"'
            .. ('a'):rep(900) .. '"},"finish_reason":"stop"}],"usage":{"total_tokens":9}}'
          ngx.header.content_length = #text
          return ngx.print(text)
        end
        local ffi = require 'ffi'
        if not gettime then
          ffi.cdef 'struct gw_ts { long s; long ns; }; int clock_gettime(int id, struct gw_ts *at);'
          gettime = ffi.new('struct gw_ts')
        end
        ngx.header.content_type = 'text/event-stream'
        for n = 1, chunks do
          ffi.C.clock_gettime(1, gettime)
          ngx.print('data: {"id":"c","object":"chat.completion.chunk",',
            ('"at":%d%09d,'):format(tonumber(gettime.s), tonumber(gettime.ns)),
            '"choices":[{"index":0,"delta":{"content":"tok"}}]}\\n\\n')
          ngx.flush(true)
          ngx.sleep(0.02)
        end
        ngx.print('data: [DONE]\\n\\n')
      }
    }
  }
}
"""
# It logs as any proxy in service does: a JSON line per request, written together.
LOGGED = HEAD.replace("access_log off;", """log_format line escape=json '{"ts":$msec,"uri":"$uri","status":$status,'
    '"took":$request_time,"upstream":"$upstream_addr","first":"$upstream_header_time","bytes":$body_bytes_sent}';
  access_log /tmp/access.jsonl line buffer=64k flush=100ms;""")
PASSES = LOGGED + """  upstream up { server 127.0.0.1:{upstream} max_fails=0; keepalive 256; }
  server {
    listen 127.0.0.1:{bare} backlog=4096;
    location / {
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
"""


@dataclass
class Server:
    """A running nginx: where it listens, and the processes that it costs."""

    name: str
    url: str
    container: str
    pids: list[int] = field(default_factory=list)

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used."""
        return sum(_ticks(pid) for pid in self.pids) / 100

    def memory(self) -> float:
        """Resident memory of its processes in MB; what they share is counted once (PSS)."""
        return sum(_pss(pid) for pid in self.pids) / 1024


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])


def pids_of(container: str) -> list[int]:
    lines = docker("top", container, "-eo", "pid").splitlines()[1:]
    return [int(line) for line in lines]


class Stage:
    """Starts all of it in `folder`; `close` removes it."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.containers: list[str] = []
        self.upstream = self._plain(folder, "upstream", ANSWERS, UPSTREAM)
        self.bare = self._plain(folder, "bare", PASSES, BARE)
        self.nginx = Nginx(folder, GATEWAY)
        conf = self.nginx.etc / "nginx.conf"
        text = conf.read_text().replace("worker_processes 2;", f"worker_processes {workers};")
        text = text.replace("if=$gw_line;", f"if=$gw_line{WRITTEN_TOGETHER};")
        conf.write_text(text.replace(f"127.0.0.1:{GATEWAY.engine}", f"127.0.0.1:{UPSTREAM}")
                        .replace(f"127.0.0.1:{GATEWAY.ollama}", f"127.0.0.1:{UPSTREAM}")
                        .replace(f"127.0.0.1:{GATEWAY.adapter}", f"127.0.0.1:{UPSTREAM}"))  # fmt: skip
        self.nginx.start()
        answer = self.nginx.weights({ROUTE: 100})
        assert answer.status_code == 200, answer.text
        container = self.nginx.container
        self.gateway = Server("gateway", self.nginx.public, container, pids_of(container))

    def _plain(self, folder: Path, name: str, conf: str, port: int) -> Server:
        path = folder / f"{name}.conf"
        path.write_text(conf.replace("{upstream}", str(UPSTREAM)).replace("{bare}", str(BARE)))
        container = f"migrate-bench-{name}-{uuid.uuid4().hex[:6]}"
        docker("run", "-d", "--name", container, "--network", "host", "-v", f"{path}:/nginx.conf:ro",
               IMAGE, "openresty", "-c", "/nginx.conf", "-g", "daemon off;")  # fmt: skip
        self.containers.append(container)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx.post(url, content=b"{}")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return Server(name, url, container, pids_of(container))
        raise RuntimeError(f"{name} did not start: {docker('logs', container)}")

    def close(self) -> None:
        self.nginx.remove()
        for container in self.containers:
            subprocess.run(["docker", "rm", "-f", container], check=False, capture_output=True)


