//! A fake STS: lets roles be assumed, and has the domain accept what their sessions sign.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{DATE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::{
    domain::Shared,
    server::{BoxError, http_date},
    verify::{Credentials, Refusal, check_time, decode, parse_date},
    wire::lock,
};

/// The response to a call of `AssumeRole`.
#[derive(Clone, Debug)]
pub enum StsAnswer {
    /// Credentials that expire after this time.
    Session(SignedDuration),
    /// An error with this status, code and message.
    Error(u16, &'static str, &'static str),
    /// Credentials that expire after an hour, delayed by this time.
    Slow(Duration),
    /// Bytes that are not the XML of STS.
    Garbage,
}

/// A call of `AssumeRole`.
#[derive(Clone, Debug)]
pub struct AssumedRole {
    /// The ARN of the role.
    pub role: String,
    /// The name of the session.
    pub session: String,
    /// All parameters, decoded.
    pub parameters: HashMap<String, String>,
    /// The access key that signed the call.
    pub caller: String,
}

/// A fake STS; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeSts {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    domain: Arc<Shared>,
    /// The answers by the ARN of the role.
    answers: Mutex<HashMap<String, StsAnswer>>,
    default: Mutex<StsAnswer>,
    calls: Mutex<Vec<AssumedRole>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl FakeSts {
    pub(crate) async fn start(domain: Arc<Shared>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            domain,
            answers: Mutex::default(),
            default: Mutex::new(StsAnswer::Session(SignedDuration::from_hours(1))),
            calls: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, server })
    }

    /// Returns its URL, for `AWS_ENDPOINT_URL_STS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the response to calls for roles without a response of their own.
    pub fn answer(&self, answer: StsAnswer) {
        *lock(&self.state.default) = answer;
    }

    /// Sets the response to calls for `role`.
    pub fn answer_for(&self, role: &str, answer: StsAnswer) {
        lock(&self.state.answers).insert(role.to_owned(), answer);
    }

    /// Returns all calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<AssumedRole> {
        lock(&self.state.calls).clone()
    }

    /// Returns the largest number of calls that were in flight at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for FakeSts {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(|request| state.answer(request));
            // An error here is a disconnect.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl State {
    /// Answers with the time of the domain's clock, which STS shares.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
        let mut response = match self.check_time(&request) {
            Ok(()) => self.answer_in_time(request).await?,
            Err(refusal) => error(403, "SignatureDoesNotMatch", &refusal.message()),
        };
        response.headers_mut().insert(DATE, HeaderValue::try_from(http_date(self.domain.now()))?);
        Ok(response)
    }

    /// Checks the request's time; one without any is too old.
    fn check_time(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let signed = request.headers().get("x-amz-date").and_then(|value| value.to_str().ok());
        check_time(signed.and_then(parse_date).unwrap_or_default(), self.domain.now())
    }

    async fn answer_in_time(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
        let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let credential = authorization.and_then(|value| value.split_once("Credential=")).map(|(_, rest)| rest);
        let caller = credential.and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let parameters = parameters(&String::from_utf8_lossy(&body));
        if parameters.get("Action").is_none_or(|action| action != "AssumeRole") {
            return Ok(xml(501, String::new()));
        }
        let parameter = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let (role, session) = (parameter("RoleArn"), parameter("RoleSessionName"));
        lock(&self.calls).push(AssumedRole { role: role.clone(), session: session.clone(), parameters, caller });
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let answer = lock(&self.answers).get(&role).cloned().unwrap_or_else(|| lock(&self.default).clone());
        let response = match answer {
            StsAnswer::Session(life) => self.begin(&role, &session, life),
            StsAnswer::Slow(delay) => {
                sleep(delay).await;
                self.begin(&role, &session, SignedDuration::from_hours(1))
            }
            StsAnswer::Error(status, code, message) => error(status, code, message),
            StsAnswer::Garbage => xml(200, "<html>a proxy in between says hello".to_owned()),
        };
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        Ok(response)
    }

    /// Begins a session that lasts for `life`.
    fn begin(&self, role: &str, session: &str, life: SignedDuration) -> Response<Full<Bytes>> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (key, secret, token) = (format!("ASIA{number:016}"), format!("secret{number}"), format!("token{number}"));
        let expires = self.domain.now() + life;
        let arn = session_arn(role, session);
        let credentials =
            Credentials { access_key: key.clone(), secret_key: secret.clone(), session_token: Some(token.clone()) };
        self.domain.accept(credentials, expires, Some(arn.clone()));
        xml(
            200,
            format!(
                "<AssumeRoleResponse xmlns=\"{NAMESPACE}\"><AssumeRoleResult><AssumedRoleUser>\
                 <AssumedRoleId>AROAEXAMPLE:{session}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser><Credentials>\
                 <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
                 </AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
            ),
        )
    }
}

/// Returns the ARN of a session of `role`: `arn:aws:sts::123456789012:assumed-role/NAME/SESSION`.
fn session_arn(role: &str, session: &str) -> String {
    let name = role.rsplit('/').next().unwrap_or_default();
    let account = role.split(':').nth(4).unwrap_or_default();
    format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
}

fn parameters(form: &str) -> HashMap<String, String> {
    let text = |part: &str| String::from_utf8_lossy(&decode(part.replace('+', " ").as_bytes())).into_owned();
    form.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (text(name), text(value))).collect()
}

fn error(status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    xml(
        status,
        format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        ),
    )
}

fn xml(status: u16, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
