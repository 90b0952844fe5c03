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

static void free_memzone(struct rte_mempool_memhdr *chunk, void *memzone)
{
	(void)chunk;
	rte_memzone_free(memzone);
}

/* As rte_pktmbuf_pool_create, but where addresses are the devices' own (IOVA as VA), elements lie one behind the other without
 * gaps at the ends of pages: net_af_xdp takes a pool of n elements for n times their size long, and what lies behind that is
 * lost there. With pages of 4 KiB (--no-huge) gaps are 40 % of the memory, too. */
struct rte_mempool *vxs_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache, uint16_t data_room,
					    int socket)
{
	struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = data_room};
	unsigned int element = sizeof(struct rte_mbuf) + data_room;
	const struct rte_memzone *zone;
	struct rte_mempool *pool;
	char zone_name[RTE_MEMZONE_NAMESIZE];
	size_t size;
	int code;

	snprintf(zone_name, sizeof(zone_name), "VXS_%s", name);
	size = (size_t)count * rte_mempool_calc_obj_size(element, RTE_MEMPOOL_F_NO_IOVA_CONTIG, NULL) + RTE_CACHE_LINE_SIZE;
	zone = rte_eal_iova_mode() == RTE_IOVA_VA ? rte_memzone_reserve(zone_name, size, socket, 0) : NULL;
	if (zone == NULL)
		return rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);
	pool = rte_mempool_create_empty(name, count, element, cache, sizeof(private), socket, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	code = pool == NULL ? -rte_errno : rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (code == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		code = rte_mempool_populate_iova(pool, zone->addr, zone->iova, zone->len, free_memzone,
						 (void *)(uintptr_t)zone);
	}
	/* It is the number of elements that there was room for; from then on the pool frees the zone. */
	if (code <= 0)
		rte_memzone_free(zone);
	if (code != (int)count) {
		rte_mempool_free(pool);
		rte_errno = code < 0 ? -code : ENOMEM;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
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
