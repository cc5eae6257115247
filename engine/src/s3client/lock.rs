//! Object lock: until when objects may not be deleted.

use std::time::SystemTime;

use aws_sdk_s3::types::{
    ObjectLockEnabled, ObjectLockMode as HeldMode, ObjectLockRetention,
    ObjectLockRetentionMode as RetentionMode,
};

use super::action::Action;
use super::customer_key;
use super::put::with_customer_key;
use super::request::{Asker, failed};
use crate::error::{ErrorKind, Result};
use crate::format::config::ObjectLockMode;

/// What a bucket does with objects that say nothing themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketLock {
    /// Whether objects can be locked: that is decided when a bucket is made.
    pub is_enabled: bool,
    /// For how many days objects are locked that do not say so themselves.
    pub default: Option<(ObjectLockMode, u32)>,
}

impl Asker {
    /// Returns until when an object may not be deleted, and the mode where the store tells one.
    pub(super) async fn retention(
        &self,
        name: &str,
    ) -> Result<Option<(SystemTime, Option<ObjectLockMode>)>> {
        let key = self.key(name);
        // By HEAD, which tells it to those who may know, and not by the request of its own, which fails
        // in different ways for objects without a lock.
        let outcome = self.ask(Action::GetRetention, async |_| {
            let request = self.s3.head_object().bucket(&self.options.bucket).key(&key);
            let request = with_customer_key!(request, self);
            Box::pin(request.send()).await.map_err(failed)
        });
        let answer = outcome.await.result;
        let answer = answer.map_err(|failure| self.error(Action::GetRetention, name, &failure))?;
        let until = answer.object_lock_retain_until_date;
        let mode = match answer.object_lock_mode {
            Some(HeldMode::Governance) => Some(ObjectLockMode::Governance),
            Some(HeldMode::Compliance) => Some(ObjectLockMode::Compliance),
            _ => None,
        };
        let until = until.and_then(|until| SystemTime::try_from(until).ok());
        Ok(until.map(|until| (until, mode)))
    }

    /// Locks an object until a time that is not before the one it is locked to.
    pub(super) async fn extend_lock(
        &self,
        name: &str,
        mode: ObjectLockMode,
        until: SystemTime,
    ) -> Result<()> {
        let key = self.key(name);
        let mode = match mode {
            ObjectLockMode::Governance => RetentionMode::Governance,
            ObjectLockMode::Compliance => RetentionMode::Compliance,
        };
        let retention =
            ObjectLockRetention::builder().mode(mode).retain_until_date(until.into()).build();
        let outcome = self.ask(Action::PutRetention, async |_| {
            let request = self.s3.put_object_retention().bucket(&self.options.bucket).key(&key);
            let request = request.retention(retention.clone());
            Box::pin(request.send()).await.map(drop).map_err(failed)
        });
        let done = outcome.await.result;
        done.map_err(|failure| self.error(Action::PutRetention, name, &failure))
    }

    /// Returns what the bucket was set to.
    pub(super) async fn bucket_lock(&self) -> Result<BucketLock> {
        let outcome = self.ask(Action::GetLockSettings, async |_| {
            let request = self.s3.get_object_lock_configuration().bucket(&self.options.bucket);
            Box::pin(request.send()).await.map_err(failed)
        });
        let answer = match outcome.await.result {
            Ok(answer) => answer,
            Err(failure) if failure.is("ObjectLockConfigurationNotFoundError") => {
                return Ok(BucketLock::default());
            }
            Err(failure) => {
                let error = self.error(Action::GetLockSettings, "", &failure);
                // A store that does not know the question has no locks.
                let is_unknown = error.kind() == ErrorKind::Unsupported;
                return if is_unknown { Ok(BucketLock::default()) } else { Err(error) };
            }
        };
        let Some(settings) = answer.object_lock_configuration else {
            return Ok(BucketLock::default());
        };
        let is_enabled = settings.object_lock_enabled == Some(ObjectLockEnabled::Enabled);
        let default = settings.rule.and_then(|rule| rule.default_retention).and_then(|found| {
            let mode = match found.mode? {
                RetentionMode::Governance => ObjectLockMode::Governance,
                RetentionMode::Compliance => ObjectLockMode::Compliance,
                _ => return None,
            };
            let days = found.days.or_else(|| found.years?.checked_mul(365))?;
            Some((mode, u32::try_from(days).ok()?))
        });
        Ok(BucketLock { is_enabled, default })
    }
}
