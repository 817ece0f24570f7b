//===- orders.h - Rows sorted by run-time ids -----------------------------===//
//
// Queries and keys with equal ids (documents, clusters, buckets) in any order
// become neighbors through tables, so that a kernel walks blocks of them: the
// order of the queries, the order of the keys, and of each query the run of
// keys with its id. Counting sorts, stable, in parallel over batch and head.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_ORDERS_H
#define HEDDLE_RUNTIME_ORDERS_H

#include "runtime/src/launch.h"

namespace heddle::rt {

/// Makes the tables of the manifest's orders and puts their addresses into the
/// block; nothing where it has none.
void sortRows(const Manifest &manifest, const heddle_tensor *args, Launch &launch, int32_t threads);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_ORDERS_H
