use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc};

use crate::{AWS_KEY, packaged_program};

type Queue = Arc<Mutex<mpsc::UnboundedReceiver<(Value, Duration)>>>;
type Answers = mpsc::UnboundedSender<(String, Value)>;

/// A fake of Lambda's runtime API, as far as the function uses it: delivers invocations and receives the responses.
#[derive(Debug)]
pub struct FakeLambda {
    address: String,
    time: Duration,
    invocations: mpsc::UnboundedSender<(Value, Duration)>,
    answers: mpsc::UnboundedReceiver<(String, Value)>,
}

impl FakeLambda {
    /// Starts the API, with a timeout of `time` for each invocation.
    pub async fn start(time: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (invocations, queue) = mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (queue, answers) = (Arc::clone(&queue), answer_sender.clone());
                let service = service_fn(move |request| answer(request, Arc::clone(&queue), answers.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, time, invocations, answers })
    }

    /// Returns the API's address, the value of `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets the time that each later invocation has.
    pub fn set_time(&mut self, time: Duration) {
        self.time = time;
    }

    /// Invokes the function. Returns the path of its response, and the response.
    pub async fn invoke(&mut self, payload: Value) -> anyhow::Result<(String, Value)> {
        self.invocations.send((payload, self.time)).context("the runtime API has ended")?;
        self.answers.recv().await.context("the runtime API has ended")
    }
}

async fn answer(request: Request<Incoming>, queue: Queue, answers: Answers) -> anyhow::Result<Response<Full<Bytes>>> {
    if request.method() == Method::GET {
        // After the last invocation, the function waits for another one.
        let Some((payload, time)) = queue.lock().await.recv().await else { std::future::pending().await };
        let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + time;
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", "one")
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:1:function:ingest")
            .header("lambda-runtime-trace-id", "Root=1");
        return Ok(response.body(payload.to_string().into())?);
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    // A finished test no longer receives responses.
    let _ = answers.send((path, serde_json::from_slice(&body).unwrap_or_default()));
    Ok(Response::builder().status(202).body(Full::default())?)
}

/// Returns a command that runs the function as Lambda does, with these variables. The program is the one that
/// `BOOTSTRAP` names, or otherwise the one just built.
pub fn function(variables: &[(&str, &str)]) -> anyhow::Result<Command> {
    let mut command = Command::new(packaged_program("BOOTSTRAP", "bootstrap")?);
    command
        .env_clear()
        .envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "ingest"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_REGION", "eu-west-1"),
            ("SERVICE", "es"),
        ])
        .envs(AWS_KEY)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Returns a batch of log events as `CloudWatch` Logs passes it to a function: compressed, in Base64.
#[must_use]
pub fn pack_log_data(batch: &Value) -> String {
    BASE64_STANDARD.encode(gzip(&batch.to_string()))
}

/// Compresses a text.
#[must_use]
pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory accepts all that is written")
}
