//! The metadata service of an instance, as far as it hands out the keys of a role: version 2, which
//! asks for a token. The answers are as AWS documents them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use colvault_benches::s3::{ACCESS_KEY, Answer, Asked, Listening, SECRET_KEY, answering};

use super::Job;

/// The role of the instance.
pub const ROLE: &str = "backup-host";

const TOKEN: &str = "AQAEAFTNrA4eEGx0AQgJ1arIq";

/// A service on a free port of loopback. Ends when it is dropped.
pub struct Metadata {
    listening: Listening,
    given: Arc<AtomicUsize>,
}

impl Metadata {
    pub fn start() -> Metadata {
        let given = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&given);
        Metadata { listening: answering(move |asked| answer(asked, &counting)), given }
    }

    /// Lets a job find its keys here and nowhere else.
    pub fn told_to(&self, job: Job) -> Job {
        job.without_keys()
            .set("AWS_EC2_METADATA_DISABLED", "false")
            .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.listening.endpoint())
    }

    /// How often keys were given.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

fn answer(asked: &Asked, given: &AtomicUsize) -> Answer {
    let text = |status, body: String| Answer::new(status, "text/plain", body);
    let path = asked.path.as_str();
    if path == "/latest/api/token" {
        let seconds = asked.header("x-aws-ec2-metadata-token-ttl-seconds");
        if asked.method != "PUT" || seconds.is_none() {
            return text(400, String::new());
        }
        let mut answer = text(200, TOKEN.to_owned());
        let seconds = seconds.unwrap_or_default().to_owned();
        answer.headers.push(("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), seconds));
        return answer;
    }
    if asked.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
        return text(401, String::new());
    }
    let list = "/latest/meta-data/iam/security-credentials/";
    match path.strip_prefix(list) {
        Some("") => text(200, ROLE.to_owned()),
        Some(ROLE) => {
            let number = given.fetch_add(1, Ordering::SeqCst);
            let now = jiff::Timestamp::now();
            let expires = now + jiff::SignedDuration::from_hours(6);
            let body = serde_json::json!({
                "Code": "Success",
                "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "Type": "AWS-HMAC",
                "AccessKeyId": ACCESS_KEY,
                "SecretAccessKey": SECRET_KEY,
                "Token": format!("IQoJb3JpZ2luX2VjEXAMPLE{number}"),
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
            text(200, body.to_string())
        }
        _ if path == "/latest/meta-data/placement/region" => text(200, "us-east-1".to_owned()),
        _ => text(404, String::new()),
    }
}
