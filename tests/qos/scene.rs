//! A session from host to host of a network, and what is asked of it.

use std::sync::Arc;

use anyhow::Result;
use perpacket_lab::Wan;
use perpacket_path::{Qos, QosConfig, QosEvent, QosReport, Running, TosReports};

use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};

pub(crate) struct Scene {
    pub(crate) wan: Wan,
    pub(crate) measured: Measured,
}

impl Scene {
    pub(crate) fn new(scenario: &str, way: Way, family: Family) -> Result<Self> {
        let wan = Wan::load(scenario)?;
        let (near, far) = wan.pairs()[family as usize];
        let measured = Measured::new([wan.left(), wan.right()], [near, far], way)?;
        Ok(Self { wan, measured })
    }

    fn qos(&self, config: QosConfig) -> Qos {
        Qos::new(Arc::clone(&self.measured.prober), config)
    }

    pub(crate) fn start(&self, config: QosConfig) -> Running<QosEvent, QosReport> {
        self.measured
            .left
            .block_on(async { self.qos(config).start() })
    }

    pub(crate) fn run(&self, config: QosConfig) -> Result<QosReport> {
        self.finish(self.qos(config))
    }

    pub(crate) fn run_with_reports(
        &self,
        config: QosConfig,
        reports: &TosReports,
    ) -> Result<QosReport> {
        self.finish(self.qos(config).with_reports(reports))
    }

    pub(crate) fn run_with_fall_back(&self, config: QosConfig) -> Result<QosReport> {
        let net = self.measured.session.net();
        self.finish(self.qos(config).with_fall_back(net.policy()))
    }

    fn finish(&self, qos: Qos) -> Result<QosReport> {
        let left = &self.measured.left;
        Ok(left.block_on(async { qos.start().finish().await })?)
    }
}
