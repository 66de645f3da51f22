"""A function of the stack, run by its own program, and invoked by the AWS command line."""

import contextlib
import http.server
import os
import queue
import subprocess
import threading
import time


class Lambda(http.server.ThreadingHTTPServer):
    """Lambda: the API that a client invokes a function by, and that from which the function's program gets invocations."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.payloads, self.answers = queue.Queue(), queue.Queue()
        self.invoked = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def invoke(self, payload):
        """Returns the function's answer, and whether it failed."""
        self.payloads.put(payload)
        return self.answers.get(timeout=120)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        payload = self.server.payloads.get()
        if payload is None:
            self.close_connection = True
            return
        headers = {
            "lambda-runtime-aws-request-id": "1",
            "lambda-runtime-deadline-ms": str(int((time.time() + 60) * 1000)),
            "lambda-runtime-invoked-function-arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        }
        self._answer(200, payload, headers)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/runtime/" in self.path:
            self.server.answers.put((body, self.path.endswith("/error")))
            self._answer(202, b"", {})
            return
        self.server.invoked.append(self.path.split("/")[3])
        answer, failed = self.server.invoke(body or b"{}")
        self._answer(200, answer, {"X-Amz-Function-Error": "Unhandled"} if failed else {})

    def _answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextlib.contextmanager
def running(program, variables, keys):
    """Runs the function's `program` with `variables`, as the role of `keys`, behind a Lambda."""
    server = Lambda()
    threading.Thread(target=server.serve_forever).start()
    environment = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    process = subprocess.Popen([program], env={"PATH": os.environ["PATH"]} | environment | variables)
    try:
        yield server
    finally:
        process.kill()
        process.wait(10)
        server.payloads.put(None)
        server.shutdown()
        server.server_close()

