//! Interface statistics, read: how many packets the upstream says it lost.

use super::super::byte_order::ByteOrder;
use super::super::decoder::Call;
use super::interface::Described;
use super::options::Options;
use crate::stats::Anomaly;

/// Notes what a whole statistics block says of one of `interfaces`; the block goes no further.
pub(super) fn note(order: ByteOrder, block: &[u8], interfaces: &mut [Described], call: &mut Call<'_>) {
    let anomalies = &mut call.counts.anomalies;
    let interface = order.u32_at(block, 8).and_then(|id| interfaces.get_mut(id as usize));
    let Some(described) = interface else {
        anomalies.add(Anomaly::SkippedBlock, 1);
        return;
    };
    let (mut ifdrop, mut osdrop) = (0, 0);
    for option in Options::of(order, block, 20) {
        let Ok(option) = option else {
            anomalies.add(Anomaly::BadOption, 1);
            break;
        };
        let place = match option.code {
            ISB_IFDROP => &mut ifdrop,
            ISB_OSDROP => &mut osdrop,
            _ => continue,
        };
        match order.u64(option.value) {
            Some(count) => *place = count,
            None => anomalies.add(Anomaly::BadOption, 1),
        }
    }
    let drops = ifdrop.saturating_add(osdrop);
    anomalies.add(Anomaly::UpstreamDrops, drops.saturating_sub(described.upstream_drops));
    described.upstream_drops = described.upstream_drops.max(drops);
}

const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;
