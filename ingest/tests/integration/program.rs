use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fake_domain::{FakeDomain, Fault, Options, Times};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc};

use crate::events;
use crate::payloads::{log_data_of, subscription};
use crate::rig::{AWS_KEY, patiently};

/// As much of Lambda as a program sees of it: hands out invocations, takes answers.
pub(crate) struct Lambda {
    pub(crate) address: String,
    invocations: mpsc::UnboundedSender<Value>,
    answers: mpsc::UnboundedReceiver<(String, Value)>,
}

impl Lambda {
    /// With so much time for each invocation.
    pub(crate) async fn start(time: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (invocations, queue) = mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (queue, answers) = (Arc::clone(&queue), answer_sender.clone());
                let service = service_fn(move |request| answer(request, time, Arc::clone(&queue), answers.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, invocations, answers }
    }

    /// Calls the program, and gives the end of the path that it answers at, and the answer.
    pub(crate) async fn invoke(&mut self, payload: Value) -> (String, Value) {
        self.invocations.send(payload).unwrap();
        patiently(self.answers.recv()).await.unwrap()
    }
}

async fn answer(
    request: Request<Incoming>,
    time: Duration,
    queue: Arc<Mutex<mpsc::UnboundedReceiver<Value>>>,
    answers: mpsc::UnboundedSender<(String, Value)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let Some(payload) = queue.lock().await.recv().await else { std::future::pending().await };
        let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", "one")
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:1:function:ingest")
            .header("lambda-runtime-trace-id", "Root=1");
        return Ok(response.body(payload.to_string().into()).unwrap());
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // A test that is over waits for no answer.
    let _ = answers.send((path, serde_json::from_slice(&body).unwrap_or_default()));
    Ok(Response::builder().status(202).body(Full::default()).unwrap())
}

/// The program: the one that `BOOTSTRAP` names, such as that of a package, or else the one just built.
pub(crate) fn bootstrap() -> OsString {
    env::var_os("BOOTSTRAP").unwrap_or_else(|| env!("CARGO_BIN_EXE_bootstrap").into())
}

pub(crate) fn program(variables: &[(&str, &str)]) -> Command {
    let mut program = Command::new(bootstrap());
    program
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
    program
}

#[tokio::test]
async fn the_program_answers_each_invocation_and_writes_its_metrics() {
    let mut lambda = Lambda::start(Duration::from_secs(3)).await;
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut child =
        program(&[("AWS_LAMBDA_RUNTIME_API", &lambda.address), ("ENDPOINT", &domain.url())]).spawn().unwrap();

    let (path, answer) = lambda.invoke(subscription(0..10)).await;
    assert!(path.ends_with("/invocation/one/response"), "{path}");
    assert_eq!(answer, json!({ "batchItemFailures": [] }));

    domain.fault(Fault::status(503, "away"), Times::UntilCleared);
    let (path, answer) = lambda.invoke(subscription(10..20)).await;
    assert!(path.ends_with("/invocation/one/error"), "{path}");
    assert_eq!(answer["errorType"], "NotIndexed");
    let message = answer["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("10 of 10 events are not in the index; the first of them: out of time"), "{message}");

    child.start_kill().unwrap();
    let output = patiently(child.wait_with_output()).await.unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let metrics: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<_> = metrics.iter().map(|line| (line["indexed"].as_u64(), line["failed"].as_u64())).collect();
    assert_eq!(counts, [(Some(10), Some(0)), (Some(0), Some(10))]);
    assert!(err.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{err}");
    assert!(err.contains("the invocation failed") && !err.contains("hunter2"), "{err}");
}

/// The smallest function has 128 MB, for itself and what Amazon Linux needs.
#[tokio::test]
async fn a_payload_of_ten_mebibytes_of_documents_fits_into_the_smallest_function() {
    let mut lambda = Lambda::start(Duration::from_mins(1)).await;
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let variables = [("AWS_LAMBDA_RUNTIME_API", lambda.address.as_str()), ("ENDPOINT", &domain.url())];
    let mut child = program(&variables).spawn().unwrap();
    let messages: Vec<String> = events::sample().iter().map(Value::to_string).cycle().take(3_500).collect();
    let payload = json!({ "awslogs": { "data": log_data_of(0, &messages) } });
    assert_eq!(lambda.invoke(payload).await.1, json!({ "batchItemFailures": [] }));

    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).unwrap();
    let peak_kib: u64 = peak.trim().parse().unwrap();
    child.start_kill().unwrap();
    let output = String::from_utf8(patiently(child.wait_with_output()).await.unwrap().stdout).unwrap();
    let metrics: Value = serde_json::from_str(output.trim()).unwrap();
    let bytes = metrics["bytes"].as_u64().unwrap();
    println!("{} events, {bytes} bytes of documents, VmHWM {peak_kib} KiB", messages.len());
    assert!(bytes >= 10 * 1024 * 1024);
    assert!(peak_kib < 100 * 1024, "{peak_kib} KiB");
}

#[tokio::test]
async fn a_setting_that_is_wrong_ends_the_program_and_is_named() {
    let output = patiently(program(&[("ENDPOINT", "https://a.test/path")]).output()).await.unwrap();
    assert!(!output.status.success());
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("ENDPOINT: ") && err.contains("has a path"), "{err}");
}
