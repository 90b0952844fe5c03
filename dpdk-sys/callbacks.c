/* SPDX-License-Identifier: Apache-2.0
 * Callbacks of queues, which end before who hooked them in goes on.
 *
 * dpdk-dumpcap has librte_pdump, in this process, take its callbacks out, and frees the buffers that they copy packets to
 * as soon as it is told that they are out. In DPDK 22.11 nobody waits for a thread that is in such a callback at that
 * moment, and has perhaps lost its CPU there: it then writes to memory that is gone. So the two functions that take a
 * callback out are defined here, too. The dynamic linker finds the program's own definition before that of librte_ethdev,
 * also for calls of other libraries; rte-rs has a test that it does. */
#include <dlfcn.h>
#include <sched.h>
#include <stdatomic.h>
#include "wrapper.h"

/* By direction, port and queue: odd while the thread that polls the queue is in its callbacks. */
static _Atomic uint32_t turns[2][RTE_MAX_ETHPORTS][RTE_MAX_QUEUES_PER_PORT];

enum { RX, TX };

typedef int remove_callback(uint16_t port, uint16_t queue, const struct rte_eth_rxtx_callback *callback);

/* Sequentially consistent on both sides: either the poller sees that the callback is out, or who takes it out sees
 * that the poller is in. */
static void wait_for_end(_Atomic uint32_t *turn)
{
	atomic_thread_fence(memory_order_seq_cst);
	uint32_t then = atomic_load(turn);

	while (then % 2 != 0 && atomic_load(turn) == then)
		sched_yield();
}

int rte_eth_remove_rx_callback(uint16_t port, uint16_t queue, const struct rte_eth_rxtx_callback *callback)
{
	remove_callback *removes = (remove_callback *)dlsym(RTLD_NEXT, "rte_eth_remove_rx_callback");
	int code = removes == NULL ? -ENOTSUP : removes(port, queue, callback);

	if (code == 0)
		wait_for_end(&turns[RX][port][queue]);
	return code;
}

int rte_eth_remove_tx_callback(uint16_t port, uint16_t queue, const struct rte_eth_rxtx_callback *callback)
{
	remove_callback *removes = (remove_callback *)dlsym(RTLD_NEXT, "rte_eth_remove_tx_callback");
	int code = removes == NULL ? -ENOTSUP : removes(port, queue, callback);

	if (code == 0)
		wait_for_end(&turns[TX][port][queue]);
	return code;
}

uint16_t vxs_rx_callbacks(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t received, uint16_t room)
{
	_Atomic uint32_t *turn = &turns[RX][port][queue];

	atomic_fetch_add(turn, 1);
	void *first = __atomic_load_n(&rte_eth_fp_ops[port].rxq.clbk[queue], __ATOMIC_SEQ_CST);

	if (first != NULL)
		received = rte_eth_call_rx_callbacks(port, queue, mbufs, received, room, first);
	atomic_fetch_add(turn, 1);
	return received;
}

uint16_t vxs_tx_callbacks(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	_Atomic uint32_t *turn = &turns[TX][port][queue];

	atomic_fetch_add(turn, 1);
	void *first = __atomic_load_n(&rte_eth_fp_ops[port].txq.clbk[queue], __ATOMIC_SEQ_CST);

	if (first != NULL)
		count = rte_eth_call_tx_callbacks(port, queue, mbufs, count, first);
	atomic_fetch_add(turn, 1);
	return count;
}

int vxs_waits_for_callbacks(void)
{
	/* The first definition that the dynamic linker finds is what other libraries call. */
	return dlsym(RTLD_DEFAULT, "rte_eth_remove_rx_callback") == (void *)rte_eth_remove_rx_callback &&
	       dlsym(RTLD_DEFAULT, "rte_eth_remove_tx_callback") == (void *)rte_eth_remove_tx_callback &&
	       dlsym(RTLD_NEXT, "rte_eth_remove_rx_callback") != NULL &&
	       dlsym(RTLD_NEXT, "rte_eth_remove_tx_callback") != NULL;
}
