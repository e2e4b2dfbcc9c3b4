//! Mail: one message to each recipient, over TLS.
//!
//! Each recipient has a transaction of its own with the server, so one that is rejected keeps the
//! message from no other. In every attempt the message has the same Message-ID.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::{Message, Outcome};
use crate::error::{Chain, SidecarError};
use crate::servers::tls::provider;

/// Time limit of an attempt, for all recipients. The lease of a message is longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit of a step of the dialogue.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Recipients at most, and connections at a time.
const MAX_RECIPIENTS: usize = 50;
const CONNECTIONS: usize = 4;

const FORM: &str = "smtps://host/?from=a@example.com&to=b@example.com, or smtp:// for STARTTLS";

/// Outcome for one recipient.
enum Answer {
    Accepted,
    /// The server will not take it, however often it is asked.
    Rejected(String),
    Failed(String),
}

/// A mail server with the addresses of a destination.
pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// Reads `smtps://host[:port]/?from=…&to=…`, or `smtp://`, which demands STARTTLS. With
    /// `insecure-smtp://` nothing is encrypted, and no password is sent. The secret is
    /// `user:password`.
    pub(super) fn new(target: &str, secret: Option<&SecretString>) -> Result<Self, SidecarError> {
        let wrong =
            |detail: String| SidecarError::Configuration { detail: format!("a mail destination is wrong: {detail}") };
        let url = Url::parse(target).map_err(|error| wrong(format!("{error}; expected {FORM}")))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong(format!("it names no host; expected {FORM}")))?.to_owned();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("its URL holds a user or a password; name a secret instead".into()));
        }
        let (mut from, mut to) = (None, Vec::new());
        for (name, value) in url.query_pairs() {
            let mailbox = || value.parse::<Mailbox>().map_err(|error| wrong(format!("address \"{value}\": {error}")));
            match name.as_ref() {
                "from" => from = Some(mailbox()?),
                "to" => to.push(mailbox()?),
                other => return Err(wrong(format!("\"{other}\" is unknown; expected from and to"))),
            }
        }
        let from = from.ok_or_else(|| wrong(format!("it has no sender; expected {FORM}")))?;
        if to.is_empty() || to.len() > MAX_RECIPIENTS {
            return Err(wrong(format!("it has {} recipients; expected 1 to {MAX_RECIPIENTS}", to.len())));
        }
        // The cryptography of this process, before lettre asks for it.
        let _ = provider();
        let parameters = || TlsParameters::new_rustls(host.clone()).map_err(|error| wrong(Chain(&error).to_string()));
        let (tls, default_port) = match url.scheme() {
            "smtps" => (Tls::Wrapper(parameters()?), 465),
            "smtp" => (Tls::Required(parameters()?), 587),
            "insecure-smtp" => (Tls::None, 25),
            other => return Err(wrong(format!("scheme \"{other}\" is unknown; expected {FORM}"))),
        };
        let is_plain = matches!(tls, Tls::None);
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
            .port(url.port().unwrap_or(default_port))
            .tls(tls)
            .timeout(Some(STEP_LIMIT));
        if let Some(secret) = secret {
            if is_plain {
                return Err(wrong("a password is not sent without TLS; use smtps or smtp".into()));
            }
            let (user, password) = secret
                .expose_secret()
                .trim()
                .split_once(':')
                .ok_or_else(|| wrong("its secret is not of the form user:password".into()))?;
            transport = transport.credentials(Credentials::new(user.to_owned(), password.to_owned()));
        }
        Ok(Self { transport: transport.build(), from, to })
    }

    /// Sends a message. It is delivered once the server has accepted it for one recipient and will
    /// not accept it for the others; a server that may accept it later is asked again.
    pub(super) async fn send(&self, message: &Message) -> Outcome {
        let attempts: Vec<_> = self.to.iter().map(|recipient| self.send_to(recipient, message)).collect();
        let answers = stream::iter(attempts).buffer_unordered(CONNECTIONS).collect::<Vec<_>>();
        let Ok(answers) = tokio::time::timeout(TIMEOUT, answers).await else {
            return Outcome::failed(format!("no answer within {} s", TIMEOUT.as_secs()));
        };
        let (mut accepted, mut is_final, mut problems) = (0, true, Vec::new());
        for answer in answers {
            match answer {
                Answer::Accepted => accepted += 1,
                Answer::Rejected(problem) => problems.push(problem),
                Answer::Failed(problem) => {
                    is_final = false;
                    problems.push(problem);
                }
            }
        }
        problems.sort();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        Outcome { is_delivered: accepted > 0 && is_final, problem }
    }

    async fn send_to(&self, recipient: &Mailbox, message: &Message) -> Answer {
        let mail = match self.mail(recipient, message) {
            Ok(mail) => mail,
            Err(problem) => return Answer::Rejected(format!("{}: {problem}", recipient.email)),
        };
        match self.transport.send(mail).await {
            Ok(_) => Answer::Accepted,
            Err(error) => {
                let problem = format!("{}: {}", recipient.email, Chain(&error));
                if error.is_permanent() { Answer::Rejected(problem) } else { Answer::Failed(problem) }
            }
        }
    }

    fn mail(&self, recipient: &Mailbox, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let alert = serde_json::from_str::<Value>(&message.payload).unwrap_or_default();
        let body = serde_json::to_string_pretty(&alert).unwrap_or_default();
        lettre::Message::builder()
            .from(self.from.clone())
            .to(recipient.clone())
            .date(SystemTime::now())
            .subject(subject(&alert))
            .message_id(Some(format!("<{}@{}>", message.message_id, self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(body)
    }
}

/// Severity, rule and wallet in one line, whatever characters a wallet has.
fn subject(alert: &Value) -> String {
    let field = |name: &str| {
        let text = alert.pointer(&format!("/data/{name}")).and_then(Value::as_str).unwrap_or("unknown");
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(100).collect::<String>()
    };
    format!("[{}] {}: {} on {}", field("severity"), field("rule"), field("address"), field("network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_destination_is_an_error_without_the_secret() {
        for target in [
            "nothing",
            "http://x/?from=a@b.c&to=d@e.f",
            "smtps://x/?to=d@e.f",
            "smtps://x/?from=a@b.c",
            "smtps://x/?from=a@b.c&to=unfinished",
            "smtps://x/?from=a@b.c&to=d@e.f&cc=g@h.i",
            "insecure-smtp://x/?from=a@b.c&to=d@e.f",
        ] {
            let error = Mail::new(target, Some(&"user:s3cr3t".into())).err().unwrap().to_string();
            assert!(error.contains("mail destination") && !error.contains("s3cr3t"), "{target}: {error}");
        }
        assert!(Mail::new("smtps://x/?from=a@b.c&to=d@e.f", Some(&"s3cr3t".into())).is_err());
        assert!(Mail::new("smtp://x:2525/?from=a@b.c&to=d@e.f&to=g@h.i", Some(&"user:s3cr3t".into())).is_ok());
    }

    #[test]
    fn a_subject_is_one_line() {
        let alert = serde_json::json!({"data": {"severity": "high", "rule": "r", "address": "a\r\nBcc: x@y.z", "network": "n"}});
        assert_eq!(subject(&alert), "[high] r: a  Bcc: x@y.z on n");
        assert_eq!(subject(&Value::Null), "[unknown] unknown: unknown on unknown");
    }
}
