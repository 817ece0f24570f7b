//===- AttnCanonicalize.cpp - Canonical form of attn.attend ---------------===//
//
// Puts patterns into canonical form, so that two spellings of one set become
// one attribute (and one kernel), and drops what nothing reads any more:
//
//   %c5 = arith.constant 5 : index
//   attn.attend %q segment(%k, %v) where(causal & window(63, 63)) k_offset(%c5)
// becomes
//   attn.attend %q segment(%k, %v) where(window(63, 0)) k_offset(5)
//
//===----------------------------------------------------------------------===//
#include "dialect/Attn.h"

#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

#include <cmath>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

namespace {

/// Canonical patterns; operands numbered in the order of the text, each once.
struct CanonicalizePatterns : OpRewritePattern<AttendOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttendOp op, PatternRewriter &rewriter) const override {
    llvm::MapVector<Value, int64_t> numbers;
    auto number = [&](int64_t n) {
      Value value = op.getPatternOperands()[n];
      return numbers.insert({value, static_cast<int64_t>(numbers.size())}).first->second;
    };
    SmallVector<Attribute> patterns;
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      heddle::Pattern pattern = canonicalize(op.getPattern(g));
      (void)pattern.str([&](int64_t n) { return "%" + std::to_string(number(n)); });
      patterns.push_back(PatternAttr::get(op.getContext(), pattern.renumber(number)));
    }
    auto values = llvm::map_to_vector(numbers, [](auto &entry) { return entry.first; });
    ArrayAttr canonical = rewriter.getArrayAttr(patterns);
    if (canonical == op.getPatterns() && llvm::equal(values, op.getPatternOperands())) {
      return rewriter.notifyMatchFailure(op, "patterns are canonical");
    }
    rewriter.modifyOpInPlace(op, [&] {
      op.setPatternsAttr(canonical);
      op.getPatternOperandsMutable().assign(values);
    });
    return success();
  }
};

/// Constant offsets and scales become attributes.
struct FoldConstantOperands : OpRewritePattern<AttendOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttendOp op, PatternRewriter &rewriter) const override {
    constexpr int64_t limit = int64_t(1) << 30;
    auto integer = [&](Value value) -> std::optional<int64_t> {
      APInt constant;
      if (!value || !value.getType().isIndex() || !matchPattern(value, m_ConstantInt(&constant)) ||
          std::abs(constant.getSExtValue()) >= limit) {
        return std::nullopt;
      }
      return constant.getSExtValue();
    };
    auto number = [&](Value value) -> std::optional<double> {
      APFloat constant(0.0f);
      if (!value || !matchPattern(value, m_ConstantFloat(&constant)) || !constant.isFinite()) {
        return std::nullopt;
      }
      return constant.convertToFloat();
    };

    SmallVector<int64_t> kOffsets(op.getStaticKOffsets());
    SmallVector<double> scales(op.getStaticSegmentScales());
    SmallVector<bool> dynamic(op.getSegmentScaleDynamic());
    SmallVector<Value> offsetsLeft, scalesLeft;
    size_t nextOffset = 0, nextScale = 0;
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      if (ShapedType::isDynamic(kOffsets[g])) {
        Value value = op.getKOffsets()[nextOffset++];
        if (std::optional<int64_t> constant = integer(value)) {
          kOffsets[g] = *constant;
        } else {
          offsetsLeft.push_back(value);
        }
      }
      if (dynamic[g]) {
        Value value = op.getSegmentScales()[nextScale++];
        if (std::optional<double> constant = number(value)) {
          scales[g] = *constant;
          dynamic[g] = false;
        } else {
          scalesLeft.push_back(value);
        }
      }
    }
    std::optional<int64_t> qOffset = integer(op.getQOffset());
    std::optional<double> scale = number(op.getScale());
    if (offsetsLeft.size() == op.getKOffsets().size() && scalesLeft.size() == op.getSegmentScales().size() &&
        !qOffset && !scale) {
      return rewriter.notifyMatchFailure(op, "no offset and no scale is constant");
    }
    rewriter.modifyOpInPlace(op, [&] {
      op.setStaticKOffsets(kOffsets);
      op.getKOffsetsMutable().assign(offsetsLeft);
      op.setStaticSegmentScales(scales);
      op.setSegmentScaleDynamic(dynamic);
      op.getSegmentScalesMutable().assign(scalesLeft);
      if (qOffset) {
        op.setStaticQOffset(*qOffset);
        op.getQOffsetMutable().clear();
      }
      if (scale) {
        op.setStaticScale(APFloat(*scale));
        op.getScaleMutable().clear();
      }
    });
    return success();
  }
};

/// Each capture once, and only those that a score region reads.
struct DropCaptures : OpRewritePattern<AttendOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttendOp op, PatternRewriter &rewriter) const override {
    llvm::SmallDenseSet<Value> read;
    for (Region &region : op.getScores()) {
      region.walk([&](Operation *inner) { read.insert(inner->operand_begin(), inner->operand_end()); });
    }
    llvm::SmallSetVector<Value, 4> kept;
    for (Value capture : op.getCaptures()) {
      if (read.contains(capture)) {
        kept.insert(capture);
      }
    }
    if (kept.size() == op.getCaptures().size()) {
      return rewriter.notifyMatchFailure(op, "every capture is read");
    }
    rewriter.modifyOpInPlace(op, [&] { op.getCapturesMutable().assign(kept.getArrayRef()); });
    return success();
  }
};

} // namespace

void AttendOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<CanonicalizePatterns, FoldConstantOperands, DropCaptures>(context);
}
