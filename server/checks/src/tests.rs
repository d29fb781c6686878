//! The prober against real listeners on loopback.

mod kinds;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use state::probe::{Probe, Report, Request, Run};
use state::{CheckDefinition, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;

use crate::{Options, Prober};

/// Long enough for the slowest machine, short enough to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(30);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A prober and both ends of its channels.
struct Rig {
    requests: mpsc::Sender<Request>,
    reports: mpsc::Receiver<Report>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    fn new(options: Options) -> Self {
        let (requests, asked) = mpsc::channel(16);
        let (reporter, reports) = mpsc::channel(16);
        let stop = CancellationToken::new();
        tokio::spawn(Prober::start(asked, reporter, options, stop.clone()));
        Rig { requests, reports, stop }
    }

    async fn start(&self, check_id: &str, definition: CheckDefinition) {
        let probe = Probe { check_id: check_id.into(), run: Run(1), definition, output_bytes_max: 100 };
        self.requests.send(Request::Start(Box::new(probe))).await.unwrap();
    }

    async fn report(&mut self) -> Report {
        timeout(DEADLINE, self.reports.recv()).await.expect("a report in time").expect("a living prober")
    }

    async fn report_that(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            let report = self.report().await;
            if wanted(&report) {
                return report;
            }
        }
    }
}

/// The first report on one check.
async fn probed(definition: CheckDefinition) -> Report {
    let mut rig = Rig::new(Options::default());
    rig.start("check", definition).await;
    rig.report().await
}

fn http(url: String) -> CheckDefinition {
    CheckDefinition { http: Some(url.into()), interval_ms: Some(1000), ..Default::default() }
}

/// Answers every connection with what `answer` makes of the head of its request.
async fn serve<F>(answer: F) -> SocketAddr
where
    F: Fn(String) -> String + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    listen(move |mut stream| {
        let answer = answer.clone();
        async move {
            let head = read_head(&mut stream).await;
            let _ = stream.write_all(answer(head).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn listen<F, W>(talk: F) -> SocketAddr
where
    F: Fn(tokio::net::TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn the_status_code_decides_and_the_answer_is_shown() {
    for (code, status) in [
        ("200 OK", Status::Passing),
        ("204 No Content", Status::Passing),
        ("299 Odd But Fine", Status::Passing),
        ("429 Too Many Requests", Status::Warning),
        ("404 Not Found", Status::Critical),
        ("503 Service Unavailable", Status::Critical),
    ] {
        let at = serve(move |_| format!("HTTP/1.1 {code}\r\n\r\n")).await;
        let report = probed(http(format!("http://{at}/health"))).await;
        assert_eq!(report.status, status, "{code}");
        assert_eq!(&*report.output, format!("HTTP GET http://{at}/health: {code} Output: "));
    }
    let at = serve(|_| OK.to_owned()).await;
    assert_eq!(&*probed(http(format!("http://{at}/"))).await.output, format!("HTTP GET http://{at}/: 200 OK Output: hello"));
}

#[tokio::test]
async fn method_headers_and_body_arrive_as_defined() {
    let seen = Arc::new(Mutex::new(String::new()));
    let seen_by_server = seen.clone();
    let at = listen(move |mut stream| {
        let seen = seen_by_server.clone();
        async move {
            let mut head = read_head(&mut stream).await;
            let mut body = [0; 4];
            let _ = stream.read_exact(&mut body).await;
            head.push_str(&String::from_utf8_lossy(&body));
            *seen.lock().unwrap() = head;
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    })
    .await;
    let headers = [("Host".into(), vec!["svc.example".into()]), ("X-Probe".into(), vec!["1".into(), "2".into()])];
    let definition = CheckDefinition {
        method: Some("POST".into()),
        body: Some("ping".into()),
        headers: headers.into_iter().collect(),
        ..http(format!("http://{at}/deep?x=1"))
    };
    assert_eq!(probed(definition).await.status, Status::Passing);
    let seen = seen.lock().unwrap().to_lowercase();
    assert!(seen.starts_with("post /deep?x=1 http/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nping"), "{seen}");
    for line in
        ["host: svc.example", "x-probe: 1", "x-probe: 2", "connection: close", "user-agent: consul health check", "content-length: 4"]
    {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {seen}");
    }
}

#[tokio::test]
async fn redirects_are_followed_unless_they_are_not_to_be() {
    let at = serve(|head| match head.starts_with("GET /new ") {
        true => OK.to_owned(),
        false => "HTTP/1.1 302 Found\r\nlocation: /new\r\n\r\n".to_owned(),
    })
    .await;
    assert_eq!(probed(http(format!("http://{at}/old"))).await.status, Status::Passing);
    let report = probed(CheckDefinition { disable_redirects: true, ..http(format!("http://{at}/old")) }).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("302 Found"), "{}", report.output);
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let at = serve(|_| "HTTP/1.1 307 Again\r\nlocation: /\r\n\r\n".to_owned()).await;
    let report = probed(http(format!("http://{at}/"))).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("stopped after 10 redirects"), "{}", report.output);
}

#[tokio::test]
async fn a_target_that_never_answers_is_given_up() {
    let at = listen(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let report = probed(CheckDefinition { timeout_ms: Some(100), ..http(format!("http://{at}/")) }).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("no answer within 100ms"), "{}", report.output);
}

#[tokio::test]
async fn a_target_that_answers_for_ever_passes_and_its_output_is_bounded() {
    let at = listen(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let report = probed(http(format!("http://{at}/"))).await;
    assert_eq!(report.status, Status::Passing);
    assert!(report.output.contains("Captured 100 of"), "{}", report.output);
    assert!(report.output.len() < 300, "{}", report.output.len());
}

#[tokio::test]
async fn what_is_not_http_is_critical() {
    let at = serve(|_| "SSH-2.0-nothing\r\n".to_owned()).await;
    let report = probed(http(format!("http://{at}/"))).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("no answer: "), "{}", report.output);
    let report = probed(http("http://[broken".to_owned())).await;
    assert!(report.output.contains("is not a URL"), "{}", report.output);
}

#[tokio::test]
async fn a_target_that_starts_to_answer_turns_passing() {
    let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut rig = Rig::new(Options::default());
    rig.start("web", http(format!("http://localhost:{}/", at.port()))).await;
    let report = rig.report().await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("can't connect to"), "{}", report.output);
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    });
    rig.report_that(|report| report.status == Status::Passing).await;
}

#[tokio::test]
async fn targets_that_hang_do_not_hold_up_the_others() {
    let hanging = listen(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let at = serve(|_| OK.to_owned()).await;
    let mut rig = Rig::new(Options { probes_at_once: 4, ..Options::default() });
    for n in 0..20 {
        rig.start(&format!("hang{n}"), CheckDefinition { timeout_ms: Some(1500), ..http(format!("http://{hanging}/")) }).await;
    }
    rig.start("well", http(format!("http://{at}/"))).await;
    for _ in 0..3 {
        rig.report_that(|report| &*report.check_id == "well" && report.status == Status::Passing).await;
    }
}

#[tokio::test]
async fn a_ttl_that_is_not_renewed_runs_out() {
    let mut rig = Rig::new(Options::default());
    rig.start("job", CheckDefinition { ttl_ms: Some(50), ..Default::default() }).await;
    let report = rig.report().await;
    assert_eq!((report.status, report.expired, report.run), (Status::Critical, true, Run(1)));
    rig.requests.send(Request::Renew { check_id: "job".into(), run: Run(2) }).await.unwrap();
    assert_eq!(rig.report().await.run, Run(2));
}

#[tokio::test]
async fn requests_are_taken_while_nobody_takes_reports() {
    let rig = Rig::new(Options::default());
    for n in 0..5000 {
        rig.start(&format!("job{n}"), CheckDefinition { ttl_ms: Some(1), ..Default::default() }).await;
    }
    timeout(DEADLINE, rig.start("last", CheckDefinition { ttl_ms: Some(1), ..Default::default() })).await.expect("the request is taken");
}

#[tokio::test]
async fn a_certificate_is_verified_unless_any_will_do() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let at = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer_once(&mut stream).await;
            }
        }
    })
    .await;
    let definition = http(format!("https://localhost:{}/", at.port()));
    let report = probed(definition.clone()).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.output.contains("TLS handshake failed"), "{}", report.output);
    let report = probed(CheckDefinition { tls_skip_verify: true, ..definition }).await;
    assert_eq!(report.status, Status::Passing, "{}", report.output);
}

async fn answer_once<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    read_head(stream).await;
    let _ = stream.write_all(OK.as_bytes()).await;
    let _ = stream.shutdown().await;
}
