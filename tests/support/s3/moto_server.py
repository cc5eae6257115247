"""Serves moto on a free port of loopback until standard input ends; prints where.

moto asks whether a name is taken before it creates an object: of two who create one name at once both would
succeed. So one request is answered at a time.
"""

import logging
import sys
import threading

from moto.s3.responses import S3Response
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").disabled = True
moto = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def get_bucket_versioning(self):
    """As AWS answers: moto gives the element another name."""
    status = self.backend.get_bucket_versioning(self.bucket_name)
    status = f"<Status>{status}</Status>" if status else ""
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<VersioningConfiguration xmlns="{space}">{status}</VersioningConfiguration>'


S3Response.get_bucket_versioning = get_bucket_versioning


def one_at_a_time(environ, start_response):
    with turn:
        return moto(environ, start_response)


server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
server.shutdown()
