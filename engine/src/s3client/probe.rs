//! What a store is found to do, before a repository is made in it.

use super::action::Action;
use super::options::ServerSideEncryption;
use super::put::with_customer_key;
use super::request::{Asker, failed};
use super::{Client, customer_key};
use crate::error::{Error, ErrorKind, Result};

/// What a store says of how it keeps an object: some take the wish and do not fulfil it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Encrypted {
    /// `x-amz-server-side-encryption`.
    by_store: Option<String>,
    /// `x-amz-server-side-encryption-customer-algorithm`.
    by_customer: Option<String>,
}

impl Encrypted {
    /// Returns what is wrong with it, where this was asked for.
    fn lacks(&self, asked: &ServerSideEncryption) -> Option<String> {
        let (found, expected) = match asked {
            ServerSideEncryption::Bucket => return None,
            ServerSideEncryption::S3 => (&self.by_store, "AES256"),
            ServerSideEncryption::Kms(_) => (&self.by_store, "aws:kms"),
            ServerSideEncryption::Customer(_) => (&self.by_customer, customer_key::ALGORITHM),
        };
        let found = found.as_deref();
        let what = match asked {
            ServerSideEncryption::Customer(_) => "encryption with the customer's key",
            _ => "encryption by the store",
        };
        (found != Some(expected)).then(|| {
            let found = found.unwrap_or("nothing");
            format!(
                "{what} ({expected}) expected of an object that was put so, the store says {found}"
            )
        })
    }
}

impl Asker {
    async fn encrypted(&self, name: &str) -> Result<Encrypted> {
        let key = self.key(name);
        let outcome = self.ask(Action::Head, async |_| {
            let request = self.s3.head_object().bucket(&self.options.bucket).key(&key);
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(failed)?;
            Ok(Encrypted {
                by_store: answer.server_side_encryption.map(|how| how.as_str().to_owned()),
                by_customer: answer.sse_customer_algorithm,
            })
        });
        outcome.await.result.map_err(|failure| self.error(Action::Head, name, &failure))
    }

    /// Whether the store wants the customer's key of who asks for an object.
    async fn wants_key(&self, name: &str) -> bool {
        let key = self.key(name);
        let outcome = self.ask(Action::Head, async |_| {
            let request = self.s3.head_object().bucket(&self.options.bucket).key(&key);
            Box::pin(request.send()).await.map(drop).map_err(failed)
        });
        outcome.await.result.is_err_and(|failure| failure.has_status(400))
    }

    /// Whether there is surely an object of a key, which need not be below the prefix.
    async fn has_key(&self, key: &str) -> bool {
        let outcome = self.ask(Action::Head, async |_| {
            let request = self.s3.head_object().bucket(&self.options.bucket).key(key);
            let request = with_customer_key!(request, self);
            Box::pin(request.send()).await.map(drop).map_err(failed)
        });
        outcome.await.result.is_ok()
    }
}

impl Client {
    /// Returns where the store is: `https://host:port`.
    pub fn store(&self) -> &str {
        &self.asker.place.store
    }

    /// Fails with `Refused` where the store does not say that it keeps an object encrypted as it was asked
    /// to by the options.
    pub fn check_encrypted(&self, name: &str) -> Result<()> {
        let asked = &self.options().encryption;
        if *asked == ServerSideEncryption::Bucket {
            return Ok(());
        }
        let is_with_own_key = matches!(asked, ServerSideEncryption::Customer(_));
        match self.wait(self.asker.encrypted(name))?.lacks(asked) {
            // Not every store says it of an object, but it has to ask for the key.
            Some(_) if is_with_own_key && self.wait(self.asker.wants_key(name)) => Ok(()),
            Some(problem) => {
                Err(Error::new(ErrorKind::Refused, format!("{}/{name}", self.location()), problem))
            }
            None => Ok(()),
        }
    }

    /// Whether there is surely an object of a key, which need not be below the prefix. What may not be seen
    /// is not there.
    pub fn has_key(&self, key: &str) -> bool {
        self.wait(self.asker.has_key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a wish that is taken for granted.
    #[test]
    fn encryption_that_was_asked_for_is_looked_for() {
        use ServerSideEncryption as S;
        let by_store = |how: &str| Encrypted { by_store: Some(how.into()), ..Encrypted::default() };
        let none = Encrypted::default();
        let own = Encrypted { by_customer: Some("AES256".into()), ..Encrypted::default() };
        for (asked, found, is_right) in [
            (S::Bucket, &none, true),
            (S::S3, &none, false),
            (S::S3, &by_store("AES256"), true),
            (S::S3, &by_store("aws:kms"), false),
            (S::Kms(None), &by_store("aws:kms"), true),
            (S::Kms(Some("key".into())), &by_store("AES256"), false),
            (S::Customer("key".into()), &own, true),
            (S::Customer("key".into()), &by_store("AES256"), false),
        ] {
            assert_eq!(found.lacks(&asked).is_none(), is_right, "{asked:?} {found:?}");
        }
    }
}
