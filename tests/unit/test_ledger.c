// SPDX-License-Identifier: Apache-2.0
// Goal: a node that commits less than it acknowledged is a loss for every stream of that
// generation.
//
// Method: small sequences by hand.

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/ledger.h"

Test(ledger, a_whole_commit_is_no_loss)
{
    struct ledger *ledger = ledger_create();
    ledger_add(ledger, 1, 0, 100);
    ledger_add(ledger, 1, 0, 50);
    ledger_add(ledger, 1, 1, 70);
    ledger_commit(ledger, 1, 0, 150);
    ledger_commit(ledger, 1, 1, 80); // of an earlier coordinator there were ten more
    cr_expect(eq(u64, ledger_losses(ledger, 1), 0));
    ledger_commit(ledger, 1, 0, 0); // nothing since
    cr_expect(eq(u64, ledger_losses(ledger, 1), 0));
    ledger_destroy(&ledger);
    cr_expect(eq(ptr, (void *)ledger, NULL));
}

Test(ledger, a_forgotten_buffer_is_a_loss_of_its_generation)
{
    struct ledger *ledger = ledger_create();
    ledger_add(ledger, 1, 2, 100);
    ledger_add(ledger, 2, 2, 100);
    ledger_commit(ledger, 1, 2, 40);
    cr_expect(eq(u64, ledger_losses(ledger, 1), 1));
    cr_expect(eq(u64, ledger_losses(ledger, 2), 0));
    ledger_add(ledger, 1, 2, 10);
    ledger_commit(ledger, 1, 2, 10); // what came later is whole again
    cr_expect(eq(u64, ledger_losses(ledger, 1), 1));
    ledger_destroy(&ledger);
}

Test(ledger, knows_nothing_of_generations_without_a_load)
{
    struct ledger *ledger = ledger_create();
    ledger_commit(ledger, 7, 0, 5);
    cr_expect(eq(u64, ledger_losses(ledger, 7), 0));
    ledger_destroy(&ledger);
    ledger_destroy(&ledger); // NULL is allowed
}
