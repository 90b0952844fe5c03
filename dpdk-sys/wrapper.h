/* SPDX-License-Identifier: Apache-2.0
 * The one header that bindgen reads: DPDK's own headers and the shim's prototypes. */
#ifndef VXSWITCH_DPDK_WRAPPER_H
#define VXSWITCH_DPDK_WRAPPER_H

#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pdump.h>
#include <rte_ring.h>

/* Thread-local or inline in DPDK, so without a symbol to link to. */
int vxs_errno(void);
unsigned int vxs_lcore_id(void);

struct rte_mbuf *vxs_pktmbuf_alloc(struct rte_mempool *pool);
int vxs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void vxs_pktmbuf_free(struct rte_mbuf *mbuf);
int vxs_pktmbuf_linearize(struct rte_mbuf *mbuf);
uint16_t vxs_pktmbuf_data_room(struct rte_mempool *pool);

/* Mbufs in the pool's common store, past the lcores' caches. */
unsigned int vxs_mempool_common_count(const struct rte_mempool *pool);

unsigned int vxs_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned int count);
unsigned int vxs_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned int count);
unsigned int vxs_ring_count(const struct rte_ring *ring);

/* The inline bursts, to measure the ones written in Rust against. */
uint16_t vxs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t vxs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* RTE_BIT64 and cast macros do not come through bindgen. */
static const uint64_t VXS_MBUF_F_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t VXS_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t VXS_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t VXS_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t VXS_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t VXS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t VXS_RSS_WANTED = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;

#endif
