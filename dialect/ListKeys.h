//===- ListKeys.h - The keys that an entry of a run-time list stands for --===//
//
// A run-time list is a condition `member(list, .., x)` on an expression x of
// the pair. Where x can be solved for the key, the entries of the list are the
// keys, and nothing else has to be walked.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_LISTKEYS_H
#define HEDDLE_DIALECT_LISTKEYS_H

#include "dialect/Expr.h"

#include <optional>

namespace heddle {

/// x = entry iff first <= j < first + run; `first` is of the query and Sym::Entry.
struct ListKeys {
  Expr first;
  int64_t run = 1;
};

/// Nullopt where `member` is no member expression or x cannot be solved.
std::optional<ListKeys> listKeys(const Expr &member);

/// The expression that says which list a query has: its row, or the block of rows that shares one; null where there
/// is one list for all. The blocks that a row of random_blocks draws are such a list too (ExprKind::Draw).
Expr listRow(const Expr &member);

/// The number of neighboring queries that share a list: n where the row is (row floordiv n), 1 for the row itself, 0
/// where all share one.
int64_t listSharing(const Expr &member);

/// True where each query's keys are gathered by themselves, false where a block of queries shares them.
bool gathersByRow(const Expr &member);

/// True for equal(ids of the query's row, ids of the key's row), the condition of `same` at rows themselves.
bool isSameIds(const Expr &condition);

/// An equation of a condition (of one of its conjuncts) with ids of the query alone on one side and ids of the key
/// alone on the other (documents, clusters), as {query side, key side}.
std::optional<std::pair<Expr, Expr>> matchedIds(const Expr &condition);

} // namespace heddle

#endif // HEDDLE_DIALECT_LISTKEYS_H
