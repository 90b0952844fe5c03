/* SPDX-License-Identifier: Apache-2.0
 * What DPDK offers only as inline functions or thread-local variables. Nothing here runs per packet
 * in the datapath, except the single-packet alloc and free that tests and the slow path use. */
#include <stdio.h>
#include "wrapper.h"

int vxs_errno(void)
{
	return rte_errno;
}

void vxs_set_errno(int code)
{
	rte_errno = code;
}

static FILE *log_next;
static void (*log_hook)(const char *text, size_t size);

static ssize_t log_write(void *cookie, const char *text, size_t size)
{
	(void)cookie;
	log_hook(text, size);
	fwrite(text, 1, size, log_next);
	fflush(log_next);
	return size;
}

int vxs_log_hook(void (*hook)(const char *text, size_t size))
{
	cookie_io_functions_t functions = {.write = log_write};
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -1;
	log_next = rte_log_get_stream();
	log_hook = hook;
	return rte_openlog_stream(stream);
}

unsigned int vxs_lcore_id(void)
{
	return rte_lcore_id();
}

struct rte_mbuf *vxs_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int vxs_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void vxs_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int vxs_pktmbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

uint16_t vxs_pktmbuf_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

unsigned int vxs_mempool_common_count(const struct rte_mempool *pool)
{
	return rte_mempool_get_ops(pool->ops_index)->get_count(pool);
}

unsigned int vxs_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned int count)
{
	return rte_ring_enqueue_burst(ring, objects, count, NULL);
}

unsigned int vxs_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned int count)
{
	return rte_ring_dequeue_burst(ring, objects, count, NULL);
}

unsigned int vxs_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

uint16_t vxs_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t vxs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}
