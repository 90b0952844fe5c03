/* SPDX-License-Identifier: Apache-2.0
 * The one header that bindgen reads: DPDK's own headers, libpcap's, and the shim's prototypes. */
#ifndef VXSWITCH_DPDK_WRAPPER_H
#define VXSWITCH_DPDK_WRAPPER_H

#include <pcap/pcap.h>
#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ip_frag.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_pdump.h>
#include <rte_ring.h>
#include <rte_vhost.h>

/* Thread-local or inline in DPDK, so without a symbol to link to. */
int vxs_errno(void);
void vxs_set_errno(int code);
/* Has every log line given to the hook, on the thread that logs, before it goes where it went before. */
int vxs_log_hook(void (*hook)(const char *text, size_t size));
unsigned int vxs_lcore_id(void);

struct rte_mempool *vxs_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache, uint16_t data_room,
					    int socket);
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

/* What others hooked into a queue, if anything by now; callbacks.c. Return how many packets were received, and are to be sent. */
uint16_t vxs_rx_callbacks(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t received, uint16_t room);
uint16_t vxs_tx_callbacks(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
/* Whether taking a callback out waits for its end, whoever does it. */
int vxs_waits_for_callbacks(void);

/* RTE_BIT64 and cast macros do not come through bindgen. */
static const uint64_t VXS_MBUF_F_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t VXS_MBUF_F_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t VXS_MBUF_F_TX_OUTER_UDP_CKSUM = RTE_MBUF_F_TX_OUTER_UDP_CKSUM;
static const uint64_t VXS_MBUF_F_TX_UDP_SEG = RTE_MBUF_F_TX_UDP_SEG;
static const uint64_t VXS_MBUF_F_TX_TUNNEL_VXLAN = RTE_MBUF_F_TX_TUNNEL_VXLAN;
static const uint64_t VXS_MBUF_F_TX_TUNNEL_GRE = RTE_MBUF_F_TX_TUNNEL_GRE;
static const uint64_t VXS_MBUF_F_TX_TUNNEL_GENEVE = RTE_MBUF_F_TX_TUNNEL_GENEVE;
static const uint64_t VXS_MBUF_F_TX_TUNNEL_UDP = RTE_MBUF_F_TX_TUNNEL_UDP;
static const uint64_t VXS_MBUF_F_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t VXS_MBUF_F_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t VXS_MBUF_F_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t VXS_MBUF_F_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t VXS_MBUF_F_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t VXS_MBUF_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t VXS_MBUF_F_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t VXS_MBUF_F_TX_OUTER_IP_CKSUM = RTE_MBUF_F_TX_OUTER_IP_CKSUM;
static const uint64_t VXS_MBUF_F_TX_OUTER_IPV4 = RTE_MBUF_F_TX_OUTER_IPV4;
static const uint64_t VXS_MBUF_F_TX_OUTER_IPV6 = RTE_MBUF_F_TX_OUTER_IPV6;
static const uint64_t VXS_TX_OFFLOADS =
	RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
	RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_UDP_TSO | RTE_ETH_TX_OFFLOAD_OUTER_IPV4_CKSUM |
	RTE_ETH_TX_OFFLOAD_VXLAN_TNL_TSO | RTE_ETH_TX_OFFLOAD_GRE_TNL_TSO | RTE_ETH_TX_OFFLOAD_GENEVE_TNL_TSO |
	RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_UDP_TNL_TSO | RTE_ETH_TX_OFFLOAD_OUTER_UDP_CKSUM;
static const uint64_t VXS_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t VXS_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t VXS_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t VXS_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t VXS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t VXS_RSS_WANTED = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;

#endif
