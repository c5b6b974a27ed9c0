"""panoramisk's FastAGI server, on uvloop."""

import uvloop

from bench.figures import SERVER_CORE, pin
from bench.servers.panoramisk import serve

if __name__ == "__main__":
    pin(SERVER_CORE)
    uvloop.run(serve())
